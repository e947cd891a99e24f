//! `k6/html`, from a script in a VU (`html.js`): lines of calls, an empty line, the page. A call is
//! the name of a member and its arguments, with tabs between them. An argument may be a number, a
//! selector, `=>` for a function, `$p` for what a selector finds, `%p` for the first element of that.

#![no_main]

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use libfuzzer_sys::fuzz_target;
use tokio::{runtime::Runtime, task::LocalSet};
use volley_fuzz::limited;
use volley_metrics::{Registry, TagTable};
use volley_scripting::{
    Files, Host, InstanceInfo, Level, Lifecycle, Script, ScriptSource, SecretAnswer, Vu,
    VuSettings, WorkerContext, prepare_process,
};

/// More calls than this are left out: each may look at the whole page.
const MOST_CALLS: usize = 16;

/// A host whose log must stay empty: the script catches all that natives throw.
struct Silent;

impl Host for Silent {
    fn log(&self, _: Level, message: &str, _: &[(&str, &str)]) {
        panic!("the log says: {message}");
    }
    fn abort(&self, text: String) {
        panic!("aborted: {text}");
    }
    fn mark_failed(&self) {}
    fn instance(&self) -> InstanceInfo {
        InstanceInfo::default()
    }
    fn options(&self) -> Option<Arc<str>> {
        None
    }
    fn secret(&self, _: Option<&str>, _: &str) -> SecretAnswer {
        Box::pin(async { Err("there are no secrets".to_owned()) })
    }
}

struct Rig {
    runtime: Runtime,
    tasks: LocalSet,
    vu: Vu,
}

impl Rig {
    fn new() -> Self {
        prepare_process();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = runtime.expect("a runtime");
        let tasks = LocalSet::new();
        let vu = tasks.block_on(&runtime, async {
            let script = Script::new(ScriptSource {
                url: "file:///dir/html.js".to_owned(),
                pwd: "file:///dir".to_owned(),
                code: include_bytes!("html.js").as_slice().into(),
                files: Files::archive(BTreeMap::new()),
                env: Vec::new(),
                extended: true,
            });
            let worker: Rc<WorkerContext> =
                WorkerContext::new(Arc::new(Registry::new()), Arc::new(TagTable::new()), false);
            let host = Arc::new(Silent);
            script
                .load(worker.clone(), host.clone())
                .await
                .expect("the script loads");
            let settings = Arc::new(VuSettings::default());
            Vu::create(script, worker, host, settings, 1, 1)
                .await
                .expect("a VU")
        });
        Self { runtime, tasks, vu }
    }

    fn run(&mut self, data: String) {
        let call = self.vu.call(Lifecycle::Teardown, Some(data.into()));
        let returned = self.tasks.block_on(&self.runtime, call);
        returned.expect("the script catches what natives throw");
    }
}

thread_local! {
    static RIG: RefCell<Rig> = RefCell::new(Rig::new());
}

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let (calls, page) = text.split_once("\n\n").unwrap_or(("", &text));
    let calls: Vec<Vec<&str>> = calls
        .lines()
        .take(MOST_CALLS)
        .map(|line| line.split('\t').collect())
        .collect();
    let data = serde_json::json!({ "calls": calls, "page": page }).to_string();
    RIG.with_borrow_mut(|rig| limited(128 << 20, || rig.run(data)));
});
