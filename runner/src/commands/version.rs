//! `version`: one line, in the form that k6's has, so that what reads k6's version reads ours.

use crate::archive::K6_VERSION;

/// The line, or one JSON object.
pub(super) fn text(json: bool) -> String {
    let own = env!("CARGO_PKG_VERSION");
    let (os, arch) = (std::env::consts::OS, arch());
    if json {
        let object = serde_json::json!({
            "commit": format!("volley-{own}"),
            "go_arch": arch,
            "go_os": os,
            "go_version": "none",
            "version": K6_VERSION,
            "volley_version": own,
        });
        return format!("{object}\n");
    }
    format!("k6 v{K6_VERSION} (volley v{own}, rust, {os}/{arch})\n")
}

/// The architecture under Go's name.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
