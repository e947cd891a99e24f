//! Resident memory and CPU time of many runtimes, each with a context and maybe a script.

use std::fs;

use rquickjs::{Function, Object};

use crate::engine;

/// Private memory of the process that is in RAM, in KB, without mapped files.
fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux 4.14 or newer");
    text.lines()
        .find_map(|line| line.strip_prefix("Anonymous:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .expect("a number of kB")
}

pub fn run(alloc: &str, intrinsics: &str, bundle: &str, n: usize) {
    let code = (bundle != "none").then(|| {
        let source = fs::read_to_string(bundle).expect("bundles.sh has been run");
        let runtime = engine::runtime("libc");
        let context = engine::context(&runtime, "full");
        let code = context.with(|ctx| engine::compile(&ctx, "bundle.js", &source, true).unwrap());
        println!("bytecode KB\t{}", code.len() / 1024);
        code
    });
    let make = || {
        let runtime = engine::runtime(alloc);
        let context = engine::context(&runtime, intrinsics);
        if let Some(code) = &code {
            context.with(|ctx| {
                let (module, promise) = engine::load(&ctx, code).unwrap().eval().unwrap();
                promise.finish::<()>().unwrap();
                let exports: Object<'_> = module.namespace().unwrap();
                let iterate: Function<'_> = exports.get("default").unwrap();
                // One iteration, since a VU runs some: caches and lazy tables are filled by it.
                let result: String = iterate.call(()).unwrap();
                assert!(!result.is_empty());
            });
        }
        (runtime, context)
    };
    let mut all: Vec<_> = (0..20).map(|_| make()).collect();
    all.reserve(n);
    let (rss, cpu) = (resident(), engine::cpu());
    let mut best = std::time::Duration::MAX;
    for _ in 0..10 {
        let start = engine::cpu();
        for _ in 0..n / 10 {
            all.push(make());
        }
        best = best.min(engine::cpu() - start);
    }
    let total = engine::cpu() - cpu;
    let grown = resident() - rss;
    println!("KB per runtime\t{:.1}", grown as f64 / n as f64);
    println!(
        "create ms (mean)\t{:.3}",
        total.as_secs_f64() * 1e3 / n as f64
    );
    println!(
        "create ms (best tenth)\t{:.3}",
        best.as_secs_f64() * 1e3 / (n / 10) as f64
    );
    // Freeing tens of thousands of heaps is not what is measured.
    std::mem::forget(all);
}
