//! `volley demo`: the main job without any network and without any cluster.

mod support;

use std::time::Duration;

use support::{Folder, Launch, free_port, request};

#[test]
fn the_demo_measures_itself_and_is_scraped() {
    let (folder, port) = (Folder::new(), free_port());
    let out = format!("prometheus=namespace=k6&port={port}");
    let mut demo = Launch::volley(folder.path())
        .words("demo -u 3 -d 2s -o")
        .args([&out])
        .start();
    // Scraped until it ends: the last values are in the page that it waits for.
    let mut page = String::new();
    while !demo.has_ended() {
        if let Ok(reply) = request(port, "GET", "/metrics", None, Duration::from_secs(5)) {
            assert_eq!(reply.status, 200);
            page = reply.body;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let demo = demo.finish().expect(0);
    let requests = demo.summary("http_reqs");
    assert!(requests > 0.0, "{}", demo.account());
    let scraped: f64 = page
        .lines()
        .filter(|line| line.starts_with("k6_http_reqs{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert_eq!(scraped, requests, "{page}");
    let demo = demo
        .prints("✓ 'rate<0.01' rate=0.00%")
        .prints("checks_succeeded...: 100.00%")
        .prints("* default: 3 looping VUs for 2s")
        .prints("default ✓ [ 100% ] 3 VUs");
    assert_eq!(demo.stderr, "");
}
