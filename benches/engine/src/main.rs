//! Measures one version of the JavaScript engine: memory, speed, conformance and the properties
//! that the program relies on. One process measures one thing and prints `name<TAB>value` lines.
//! `run.sh` builds and runs it for several versions; README.md says what the numbers mean.

mod conformance;
mod engine;
mod memory;
mod speed;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // As the program does: with huge pages each touched stack or heap page may cost 2 MB.
    // SAFETY: constant arguments; a refusal only costs memory.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["version"] => engine::version(),
        ["memory", alloc, intrinsics, bundle, n] => {
            memory::run(alloc, intrinsics, bundle, n.parse().expect("a number"));
        }
        ["speed", alloc, case, rounds] => {
            speed::run(alloc, case, rounds.parse().expect("a number"))
        }
        ["speed-cases"] => speed::list(),
        ["conformance"] => conformance::features(),
        ["feature", index] => conformance::one_feature(index.parse().expect("a number")),
        ["stopping"] => conformance::stopping(),
        ["poll-counter"] => engine::poll_counter(),
        ["script", path] => conformance::script(path),
        _ => {
            eprintln!(
                "engine-bench version | memory libc|rust|mimalloc full|volley none|FILE N | \
                 speed libc|mimalloc CASE ROUNDS | speed-cases | conformance | stopping | \
                 poll-counter | script FILE"
            );
            std::process::exit(2);
        }
    }
}
