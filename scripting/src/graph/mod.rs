//! The graph of a script's modules: what imports what, compiled once for all VUs.
//!
//! The first init prepares a graph before the engine sees it: each file is read and analysed, and
//! each of its specifiers resolved to the name of another [`Unit`]. So the engine never looks for
//! anything in vain, which would leave modules behind that can be neither used nor loaded again.
//! It then compiles each unit once; VUs made later load the bytecode and look names up in tables.
//!
//! The engine wants to know what a module exports before it runs. Where that is not so in k6 (a
//! CommonJS file, a name that a built-in module lacks), a *view* stands between the two: a few
//! lines of JavaScript that export the names which are asked for.

pub(crate) mod analysis;
mod leaf;
mod namespaces;
mod positions;
pub(crate) mod stack;
mod templates;
pub(crate) mod typescript;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    rc::Rc,
    sync::{Arc, Mutex, OnceLock},
};

use rquickjs::{
    Ctx, Error, Function, Module, Result as JsResult, Value,
    loader::{ImportAttributes, Loader, Resolver},
    module::Declared,
};

use self::{
    analysis::{Analysis, Kind, SyntaxProblem, Use, Wanted},
    positions::Positions,
};
use crate::{
    engine::{self, Bytecode, FunctionCode},
    error,
    globals::require,
    host::Level,
    loader::{self, FileError},
    modules, remote,
    state::VuState,
};

/// Names of views begin with it; they are no frames of the script.
pub(crate) const VIEW: &str = "volley:";
/// Stands for the first character of a specifier that is imported as a namespace, so that the same
/// specifier may mean another view elsewhere in the file.
const MARKS: &[u8] = b"*!#$%&+,;=@^~";

/// A file or a view.
pub(crate) struct Unit {
    code: Code,
    /// What its specifiers mean, in their order: names of other units, or of built-in modules.
    requests: Vec<(Box<str>, Box<str>)>,
    meta: Meta,
}

enum Code {
    /// The engine compiles a module together with all that it imports, when the first VU loads it;
    /// until then there is its text.
    Module {
        text: Mutex<Option<Vec<u8>>>,
        compiled: OnceLock<Bytecode>,
    },
    /// The engine compiles this module in each VU, as `templates.rs` says.
    Source(Box<[u8]>),
    CommonJs(FunctionCode),
    /// A module that is a function of the object of its exports; [`leaf_view`] exports them.
    Leaf(FunctionCode),
}

impl Code {
    fn module(text: Vec<u8>) -> Self {
        Self::Module {
            text: Mutex::new(Some(text)),
            compiled: OnceLock::new(),
        }
    }
}

/// What `import.meta` offers.
enum Meta {
    Nothing,
    /// `resolve`, relative to this URL.
    Resolve(Box<str>),
    /// `load`, which runs this file that is a function and answers its exports.
    Load(Box<str>),
}

impl Unit {
    fn request(&self, specifier: &str) -> Option<&str> {
        let at = self
            .requests
            .binary_search_by(|(known, _)| (**known).cmp(specifier));
        at.ok().map(|at| &*self.requests[at].1)
    }

    /// The function of a CommonJS file; `None` for a module.
    pub(crate) fn function(&self) -> Option<&FunctionCode> {
        match &self.code {
            Code::CommonJs(code) => Some(code),
            Code::Module { .. } | Code::Source(_) | Code::Leaf(_) => None,
        }
    }

    /// The function of a module that is one.
    pub(crate) fn leaf(&self) -> Option<&FunctionCode> {
        match &self.code {
            Code::Leaf(code) => Some(code),
            Code::Module { .. } | Code::Source(_) | Code::CommonJs(_) => None,
        }
    }
}

/// Why a graph cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Built-in names that nobody knows.
    Unknown(BTreeSet<String>),
    /// A built-in module that says itself that it is gone.
    Removed(String),
    /// Everything else.
    Other(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(names) => {
                let names: Vec<&String> = names.iter().collect();
                write!(
                    f,
                    "unknown modules {names:?} were tried to be loaded, but couldn't - this likely \
                     means automatic extension resolution is required or a custom k6 binary with \
                     the required extensions"
                )
            }
            Self::Removed(text) | Self::Other(text) => f.write_str(text),
        }
    }
}

/// What is known of all files of a script. Only ever grows.
#[derive(Default)]
pub(crate) struct Graph {
    units: HashMap<Box<str>, Arc<Unit>>,
    /// What was wrong with files that could be read: VUs made later get the same answer.
    broken: HashMap<Box<str>, String>,
    /// Names whose graph was looked at in the first init, and what is wrong with it.
    prepared: HashMap<Box<str>, Result<(), Problem>>,
    /// Where code that was generated comes from.
    positions: HashMap<Box<str>, Arc<Positions>>,
    /// Exports of the built-in modules that were asked for.
    builtins: BTreeMap<Box<str>, Arc<BTreeSet<String>>>,
}

impl Graph {
    pub(crate) fn unit(&self, name: &str) -> Option<Arc<Unit>> {
        self.units.get(name).cloned()
    }

    /// Whether any code was generated.
    pub(crate) fn has_positions(&self) -> bool {
        !self.positions.is_empty()
    }

    /// Where the code of a file comes from, if it was generated.
    fn positions(&self, url: &str) -> Option<Arc<Positions>> {
        self.positions.get(url).cloned()
    }

    /// How a module is named by one that imports it.
    fn specifier_of(&self, name: &str) -> Option<String> {
        let mut requests = self.units.values().flat_map(|unit| &unit.requests);
        requests
            .find(|(_, known)| &**known == name)
            .map(|(specifier, _)| specifier.to_string())
    }

    /// Whether a module is, or imports directly or indirectly, one of `names`.
    pub(crate) fn reaches(&self, from: &str, names: &[String]) -> bool {
        let mut seen = BTreeSet::from([from]);
        let mut waiting = vec![from];
        while let Some(name) = waiting.pop() {
            if names.iter().any(|known| known == name) {
                return true;
            }
            if let Some(unit) = self.units.get(name) {
                waiting.extend(
                    unit.requests
                        .iter()
                        .map(|(_, name)| &**name)
                        .filter(|name| seen.insert(name)),
                );
            }
        }
        false
    }
}

/// A file that was read, and what it imports.
struct Draft {
    text: Vec<u8>,
    kind: Kind,
    /// What it exports, if it is a module as a function; the text is that of the function then.
    leaf: Option<Vec<String>>,
    /// Whether the strings of its templates have to be frozen.
    templates: bool,
    meta: bool,
    /// Uses with what each of them means.
    uses: Vec<(Use, Target)>,
}

/// What a specifier means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// A module that has its own name.
    Builtin(String),
    /// A file.
    File(String),
}

/// Makes sure that the module or file of that name, and all that it imports, can be loaded.
/// `specifier` is how it was asked for, for messages.
///
/// # Errors
/// When something in the graph is missing, broken or unknown.
pub(crate) fn prepare(
    ctx: &Ctx<'_>,
    state: &Rc<VuState>,
    name: &str,
    specifier: &str,
) -> Result<(), Problem> {
    if let Some(known) = state
        .script
        .graph(|graph| graph.prepared.get(name).cloned())
    {
        return known;
    }
    let mut survey = Survey {
        ctx,
        state,
        root: name,
        drafts: BTreeMap::new(),
        order: Vec::new(),
        unknown: BTreeSet::new(),
    };
    let mut found = survey.read_all(name, specifier);
    if !survey.unknown.is_empty() {
        found = Err(Problem::Unknown(std::mem::take(&mut survey.unknown)));
    }
    let found = found.and_then(|()| survey.define_all());
    if state.first_init {
        state
            .script
            .graph(|graph| graph.prepared.insert(name.into(), found.clone()));
    }
    found
}

/// The work of [`prepare`].
struct Survey<'a, 'js> {
    ctx: &'a Ctx<'js>,
    state: &'a Rc<VuState>,
    /// What was asked for, which nothing imports.
    root: &'a str,
    drafts: BTreeMap<String, Draft>,
    /// Names of the drafts in the order in which they were found.
    order: Vec<String>,
    unknown: BTreeSet<String>,
}

impl<'js> Survey<'_, 'js> {
    /// Reads and analyses every file that is not known yet.
    fn read_all(&mut self, name: &str, specifier: &str) -> Result<(), Problem> {
        let mut waiting = VecDeque::from([(name.to_owned(), specifier.to_owned())]);
        let mut seen = BTreeSet::from([name.to_owned()]);
        while let Some((url, specifier)) = waiting.pop_front() {
            let next = match self.state.script.graph(|graph| graph.unit(&url)) {
                // Its files were there when it was compiled, but what they import may be broken.
                Some(unit) => unit
                    .requests
                    .iter()
                    .filter(|(_, name)| !is_builtin(name))
                    .map(|(specifier, name)| (name.to_string(), specifier.to_string()))
                    .collect(),
                None => self.read(&url, &specifier)?,
            };
            for (url, specifier) in next {
                if seen.insert(url.clone()) {
                    waiting.push_back((url, specifier));
                }
            }
        }
        Ok(())
    }

    /// Reads one file; answers the files that it imports.
    fn read(&mut self, url: &str, specifier: &str) -> Result<Vec<(String, String)>, Problem> {
        let script = &self.state.script;
        if let Some(text) = script.graph(|graph| graph.broken.get(url).cloned()) {
            return Err(Problem::Other(text));
        }
        if !self.state.first_init {
            // What was read as data is not known as a module.
            let problem = match script.files().read(url) {
                Ok(_) => FileError::Closed,
                Err(problem) => problem,
            };
            return Err(Problem::Other(file_text(&problem, url, specifier)));
        }
        if let Err(problem) = self.fetch(url) {
            let text = remote::not_retrieved(specifier, url, &problem);
            script.graph(|graph| graph.broken.insert(url.into(), text.clone()));
            return Err(Problem::Other(text));
        }
        let content = script
            .files()
            .read(url)
            .map_err(|problem| Problem::Other(file_text(&problem, url, specifier)))?;
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
        let mut text = String::from_utf8_lossy(content);
        let mut analysed = analysis::analyse(&text);
        // Standard input has no name that would tell.
        if (url.ends_with(".ts") || url == "file:///-")
            && let Err(_) = analysis::check(&text)
        {
            match typescript::strip(&text) {
                Ok((stripped, positions)) => {
                    self.keep_positions(url, positions)?;
                    text = stripped.into();
                    analysed = analysis::analyse(&text);
                }
                Err(problem) => {
                    return Err(Problem::Other(broken(self.state, url, None, Some(problem))));
                }
            }
        }
        if let Some(map) = positions::mentioned(&text) {
            match self.source_map(url, map) {
                Ok(positions) => self.keep_positions(url, positions)?,
                Err(problem) => self.state.log(
                    Level::Warning,
                    &format!("Couldn't load source map for {url}"),
                    &[("error", &problem)],
                ),
            }
        }
        let Analysis { kind, uses, meta } = match analysed {
            Ok(analysis) => analysis,
            Err(problem) => {
                // The engine is asked as well, since it names the place that k6 does.
                let tried = self
                    .state
                    .while_linking(|| engine::compile(self.ctx, url, content));
                let thrown = tried.err().map(|error| error::thrown(self.ctx, error));
                return Err(Problem::Other(broken(
                    self.state,
                    url,
                    thrown,
                    Some(problem),
                )));
            }
        };
        let mut next = Vec::new();
        let mut targets = Vec::new();
        for one in uses {
            let Some(target) = self.target(url, &one.specifier)? else {
                continue;
            };
            if let Target::File(url) = &target {
                next.push((url.clone(), one.specifier.clone()));
            }
            targets.push((one, target));
        }
        let leaf = match kind {
            Kind::Module if url != self.root && targets.is_empty() && !meta => leaf::of(&text),
            _ => None,
        };
        let leaf = leaf.map(|leaf| {
            text = leaf.text.into();
            leaf.names
        });
        let templates = kind == Kind::Module && templates::are_seen(&text);
        self.order.push(url.to_owned());
        self.drafts.insert(
            url.to_owned(),
            Draft {
                text: text.into_owned().into_bytes(),
                kind,
                leaf,
                templates,
                meta,
                uses: targets,
            },
        );
        Ok(next)
    }

    /// The source map of a file, from its comment or from beside it.
    fn source_map(&self, url: &str, map: &str) -> Result<Positions, String> {
        if map.starts_with("data:") {
            return Positions::from_map(&positions::inline(map)?, url);
        }
        let specifier = match map {
            map if map.starts_with(['.', '/']) || map.contains("://") => map.to_owned(),
            map => format!("./{map}"),
        };
        let place = loader::resolve(url, &specifier)?;
        self.fetch(&place)?;
        let json = self
            .state
            .script
            .files()
            .read_now(&place)
            .map_err(|problem| match problem {
                FileError::NotFound => format!("{place} is not there"),
                problem => file_text(&problem, &place, map),
            })?;
        Positions::from_map(&json, url)
    }

    /// Notes where the code of a file comes from, from now on for all stacks.
    fn keep_positions(&self, url: &str, positions: Positions) -> Result<(), Problem> {
        let script = &self.state.script;
        script.graph(|graph| graph.positions.insert(url.into(), Arc::new(positions)));
        stack::install(self.ctx, self.state)
            .map_err(|e| Problem::Other(error::to_text(&error::thrown(self.ctx, e))))
    }

    /// Fetches a remote file, unless it is there.
    fn fetch(&self, url: &str) -> Result<(), String> {
        let files = self.state.script.files();
        if url.starts_with("https://") && files.wants(url) {
            if files.is_offline() {
                return Err(remote::OFFLINE.to_owned());
            }
            let fetched = self.state.fiber.wait(remote::fetch(url));
            let content = fetched.unwrap_or_else(|_| Err("interrupted".to_owned()))?;
            files.insert(url, content.into());
        }
        Ok(())
    }

    /// What a specifier means in a file; `None` for an unknown built-in name, which is noted, so
    /// that all of them are reported together.
    fn target(&mut self, base: &str, specifier: &str) -> Result<Option<Target>, Problem> {
        if is_builtin(specifier) {
            let found = builtin(self.state, specifier)?;
            if found.is_none() {
                self.unknown.insert(specifier.to_owned());
            }
            return Ok(found.map(Target::Builtin));
        }
        loader::resolve(base, specifier)
            .map(|url| Some(Target::File(url)))
            .map_err(Problem::Other)
    }

    /// Makes units of what was read.
    fn define_all(&mut self) -> Result<(), Problem> {
        for url in std::mem::take(&mut self.order) {
            let Some(draft) = self.drafts.get(&url) else {
                continue;
            };
            let mut text = draft.text.clone();
            let mut requests: BTreeMap<String, String> = BTreeMap::new();
            // Names first: which of them a view has to have is known when all were seen.
            let mut named: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for (one, _) in &draft.uses {
                let names = named.entry(&one.specifier).or_default();
                if let Wanted::Name(name) = &one.wanted {
                    names.insert(name);
                }
            }
            let mut marked = Vec::new();
            for (one, target) in &draft.uses {
                match (&one.wanted, target) {
                    (Wanted::Namespace(Some(_)), Target::Builtin(_)) => marked.push((one, target)),
                    (Wanted::Namespace(Some(_)), Target::File(file)) if self.is_commonjs(file) => {
                        marked.push((one, target));
                    }
                    _ => {
                        let names = &named[one.specifier.as_str()];
                        let star = draft.uses.iter().any(|(other, _)| {
                            other.specifier == one.specifier
                                && matches!(other.wanted, Wanted::Star | Wanted::Namespace(None))
                        });
                        let name = self.view(target, names, star)?;
                        requests.insert(one.specifier.clone(), name);
                    }
                }
            }
            for (one, target) in marked {
                let name = self.namespace_view(target)?;
                mark(&mut text, one, name, &mut requests);
            }
            let code = match draft.kind {
                Kind::Module if let Some(names) = &draft.leaf => {
                    let code = engine::compile_leaf(self.ctx, &url, &text).map_err(|error| {
                        Problem::Other(rejected(self.state, self.ctx, &url, &text, error))
                    })?;
                    self.define_leaf_view(&url, names);
                    Code::Leaf(code)
                }
                Kind::Module if draft.templates => Code::Source(text.into()),
                Kind::Module => Code::module(text),
                Kind::CommonJs => {
                    Code::CommonJs(engine::compile_function(self.ctx, &url, &text).map_err(
                        |error| Problem::Other(rejected(self.state, self.ctx, &url, &text, error)),
                    )?)
                }
            };
            let meta = if draft.meta {
                Meta::Resolve(url.as_str().into())
            } else {
                Meta::Nothing
            };
            self.define(url, code, requests, meta);
        }
        Ok(())
    }

    fn is_commonjs(&self, url: &str) -> bool {
        match self.drafts.get(url) {
            Some(draft) => draft.kind == Kind::CommonJs,
            None => self.state.script.graph(|graph| {
                graph
                    .unit(url)
                    .is_some_and(|unit| unit.function().is_some())
            }),
        }
    }

    /// The name of what serves these imports: the module itself where it can.
    fn view(&self, target: &Target, names: &BTreeSet<&str>, star: bool) -> Result<String, Problem> {
        match target {
            Target::Builtin(module) => {
                if modules::is_default_only(module) {
                    let mut wanted: BTreeSet<String> =
                        names.iter().map(|name| (*name).to_owned()).collect();
                    wanted.remove("default");
                    if star {
                        wanted.extend(self.exports_of(module)?.iter().cloned());
                    }
                    return Ok(self.members_view(module, &wanted, true));
                }
                if names.is_empty() {
                    return Ok(module.clone());
                }
                let exported = self.exports_of(module)?;
                let missing: Vec<&str> = names
                    .iter()
                    .copied()
                    .filter(|name| !exported.contains(*name))
                    .collect();
                if missing.is_empty() {
                    return Ok(module.clone());
                }
                let value = if modules::is_object_style(module) {
                    "undefined"
                } else {
                    "null"
                };
                let name = format!("{VIEW}{module}?{}", missing.join(","));
                let mut text = format!("export * from \"{module}\";");
                if exported.contains("default") {
                    text.push_str(&format!("export {{default}} from \"{module}\";"));
                }
                for (at, missing) in missing.iter().enumerate() {
                    text.push_str(&format!(
                        "const v{at}={value};export{{v{at} as {missing:?}}};"
                    ));
                }
                self.define_view(&name, &text, Some(module), Meta::Nothing);
                Ok(name)
            }
            Target::File(url) if self.is_commonjs(url) => {
                let mut names: BTreeSet<String> = names.iter().map(|n| (*n).to_owned()).collect();
                names.remove("default");
                if star {
                    let content = self.state.script.files().read(url).unwrap_or_default();
                    names.extend(analysis::likely_exports(&String::from_utf8_lossy(&content)));
                }
                let list: Vec<&str> = names.iter().map(String::as_str).collect();
                let name = format!("{VIEW}{url}?{}", list.join(","));
                let mut text = "const e=import.meta.load(),o=Object(e);\
                     export default 'default' in o?e.default:e;"
                    .to_owned();
                for (at, name) in names.iter().enumerate() {
                    text.push_str(&format!(
                        "const v{at}=o[{name:?}];export{{v{at} as {name:?}}};"
                    ));
                }
                self.define_view(&name, &text, None, Meta::Load(url.as_str().into()));
                Ok(name)
            }
            Target::File(url) if self.is_leaf(url) => Ok(leaf_view(url)),
            Target::File(url) => Ok(url.clone()),
        }
    }

    fn is_leaf(&self, url: &str) -> bool {
        match self.drafts.get(url) {
            Some(draft) => draft.leaf.is_some(),
            None => self
                .state
                .script
                .graph(|graph| graph.unit(url).is_some_and(|unit| unit.leaf().is_some())),
        }
    }

    fn define_leaf_view(&self, url: &str, names: &[String]) {
        let mut text = "const e=import.meta.load();".to_owned();
        for (at, name) in names.iter().enumerate() {
            text.push_str(&format!("const v{at}=e.{name};export{{v{at} as {name}}};"));
        }
        self.define_view(&leaf_view(url), &text, None, Meta::Load(url.into()));
    }

    /// The name of what serves `import * as all`: no `default` for a built-in module, and for a
    /// CommonJS file, as its default, an object with the keys its exports have by then.
    fn namespace_view(&self, target: &Target) -> Result<String, Problem> {
        Ok(match target {
            Target::Builtin(module) if modules::is_default_only(module) => {
                self.members_view(module, &*self.exports_of(module)?, false)
            }
            Target::Builtin(module) => {
                let name = format!("{VIEW}{module}");
                let text = format!("export * from \"{module}\";");
                self.define_view(&name, &text, Some(module), Meta::Nothing);
                name
            }
            Target::File(url) => {
                let name = format!("{VIEW}{url}");
                let text = "const e=import.meta.load(),o=Object(e),n={__proto__:null};\
                     for(const k of Object.keys(o))n[k]=o[k];\
                     n.default='default' in o?e.default:e;\
                     export default Object.freeze(n)";
                self.define_view(&name, text, None, Meta::Load(url.as_str().into()));
                name
            }
        })
    }

    /// The name of what exports these members of the module's default; itself where it can.
    fn members_view(&self, module: &String, names: &BTreeSet<String>, default: bool) -> String {
        if names.is_empty() && default {
            return module.clone();
        }
        let list: Vec<&str> = names.iter().map(String::as_str).collect();
        let mark = if default { '?' } else { '*' };
        let name = format!("{VIEW}{module}{mark}{}", list.join(","));
        let mut text = format!("import o from \"{module}\";");
        if default {
            text.push_str("export{o as default};");
        }
        for (at, member) in names.iter().enumerate() {
            text.push_str(&format!(
                "const v{at}=o[{member:?}];export{{v{at} as {member:?}}};"
            ));
        }
        self.define_view(&name, &text, Some(module), Meta::Nothing);
        name
    }

    fn define_view(&self, name: &str, text: &str, module: Option<&String>, meta: Meta) {
        let requests = module
            .map(|module| (module.clone(), module.clone()))
            .into_iter()
            .collect();
        let code = Code::module(text.as_bytes().to_vec());
        self.define(name.to_owned(), code, requests, meta);
    }

    /// Keeps a unit, unless there is one: code that was loaded stays.
    fn define(&self, name: String, code: Code, requests: BTreeMap<String, String>, meta: Meta) {
        let unit = Unit {
            code,
            requests: requests
                .into_iter()
                .map(|(specifier, name)| (specifier.into(), name.into()))
                .collect(),
            meta,
        };
        self.state.script.graph(|graph| {
            graph
                .units
                .entry(name.into())
                .or_insert_with(|| Arc::new(unit));
        });
    }

    /// What a built-in module exports, by running it: it has no effect but that. Of a module that
    /// has a default only, the members of that.
    fn exports_of(&self, module: &str) -> Result<Arc<BTreeSet<String>>, Problem> {
        let script = &self.state.script;
        if let Some(known) = script.graph(|graph| graph.builtins.get(module).cloned()) {
            return Ok(known);
        }
        let names = || -> JsResult<BTreeSet<String>> {
            let mut namespace = require::evaluate(self.ctx, self.state, module)?;
            if modules::is_default_only(module) {
                namespace = namespace.get("default")?;
            }
            namespace
                .own_keys::<String>(rquickjs::Filter::new().string())
                .collect()
        };
        let names =
            names().map_err(|e| Problem::Other(error::to_text(&error::thrown(self.ctx, e))))?;
        let names = Arc::new(names);
        script.graph(|graph| graph.builtins.insert(module.into(), names.clone()));
        Ok(names)
    }
}

/// The text for what the engine does not take.
fn rejected(state: &VuState, ctx: &Ctx<'_>, url: &str, text: &[u8], error: Error) -> String {
    let thrown = error::thrown(ctx, error);
    let problem = analysis::check(&String::from_utf8_lossy(text)).err();
    broken(state, url, Some(thrown), problem)
}

/// `<url>: Line L:C <message>`, from what the engine and the parser found wrong. VUs made later get
/// the same text.
fn broken(
    state: &VuState,
    url: &str,
    thrown: Option<Value<'_>>,
    problem: Option<SyntaxProblem>,
) -> String {
    let by_engine = thrown.and_then(|thrown| {
        let message = error::to_text(&thrown);
        let place = place_of(url, &error::describe(&thrown))?;
        Some((place, message.strip_prefix("SyntaxError: ")?.to_owned()))
    });
    // Both may speak of generated code.
    let positions = state.script.graph(|graph| graph.positions(url));
    // The parser's words are nearer to those of k6, the engine's place is.
    let (place, message) = match (by_engine, problem) {
        (Some((place, _)), Some(problem)) => (place, problem.message),
        (Some(by_engine), None) => by_engine,
        (None, Some(SyntaxProblem { place, message })) => (place, message),
        (None, None) => ((1, 1), "it cannot be compiled".to_owned()),
    };
    let (_, line, column) = positions
        .as_ref()
        .filter(|positions| positions.same_file())
        .and_then(|positions| positions.original(place.0, place.1))
        .unwrap_or((None, place.0, place.1));
    let text = format!("{url}: Line {line}:{column} {message}");
    state
        .script
        .graph(|graph| graph.broken.insert(url.into(), text.clone()));
    text
}

/// Line and column of the first frame in a file.
fn place_of(url: &str, description: &str) -> Option<(usize, usize)> {
    description.lines().skip(1).find_map(|line| {
        let (_, at) = line.split_once(url)?;
        let mut numbers = at.trim_start_matches(':').split([':', '(']);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}

/// The name of the view that exports what a module exports that is a function.
pub(crate) fn leaf_view(url: &str) -> String {
    format!("{VIEW}{url}=")
}

/// Changes a namespace import in the text, without moving anything: its specifier gets a mark, and
/// for a CommonJS file `* as` goes away, which makes it an import of the view's default.
fn mark(text: &mut [u8], one: &Use, name: String, requests: &mut BTreeMap<String, String>) {
    let Wanted::Namespace(star) = one.wanted else {
        return;
    };
    let (start, end) = (one.place.0 + 1, one.place.1 - 1);
    // Written with escapes, it is left as it is: then the engine sees the module itself.
    let plain = text.get(start..end) == Some(one.specifier.as_bytes());
    let first = one.specifier.chars().next().filter(char::is_ascii);
    let mark = MARKS.iter().copied().find(|mark| {
        let marked = format!(
            "{}{}",
            char::from(*mark),
            one.specifier.get(1..).unwrap_or_default()
        );
        requests.get(&marked).is_none_or(|known| *known == name)
    });
    let (true, Some(_), Some(mark)) = (plain, first, mark) else {
        requests.entry(one.specifier.clone()).or_insert(name);
        return;
    };
    text[start] = mark;
    let marked = String::from_utf8_lossy(&text[start..end]).into_owned();
    if let Some((from, to)) = star.filter(|_| !name.strip_prefix(VIEW).is_some_and(is_builtin)) {
        for byte in &mut text[from..to] {
            if !byte.is_ascii_whitespace() {
                *byte = b' ';
            }
        }
    }
    requests.insert(marked, name);
}

/// The module that a built-in name means; `None` for one that nobody knows.
///
/// # Errors
/// When it is known and cannot be had.
pub(crate) fn builtin(state: &VuState, name: &str) -> Result<Option<String>, Problem> {
    match modules::find(name) {
        modules::Found::Module => Ok(Some(name.to_owned())),
        modules::Found::Graduated { module, warning } => {
            if state.first_init && state.script.first_time(name) {
                state.log(Level::Warning, warning, &[]);
            }
            match modules::module(module) {
                Some(_) => Ok(Some(module.to_owned())),
                None => builtin(state, module),
            }
        }
        modules::Found::Removed(text) => Err(Problem::Removed(text.to_owned())),
        modules::Found::Refused(text) => Err(Problem::Other(text)),
        modules::Found::Unknown => Ok(None),
    }
}

/// Whether a name is looked up in the table of built-in modules, and nowhere else.
pub(crate) fn is_builtin(name: &str) -> bool {
    name == "k6" || name.starts_with("k6/")
}

fn file_text(problem: &FileError, url: &str, specifier: &str) -> String {
    match problem {
        FileError::NotFound if url.starts_with("https://") => {
            remote::not_retrieved(specifier, url, "it is not in the archive")
        }
        FileError::NotFound => loader::not_found_text(specifier),
        FileError::Directory => {
            format!("read {}: is a directory", url.trim_start_matches("file://"))
        }
        FileError::Closed => format!(
            "the module \"{specifier}\" was not previously resolved during initialization (__VU==0)"
        ),
        FileError::Io(error) => format!("{specifier}: {error}"),
    }
}

/// Puts into `import.meta` what the unit's code asks for.
fn give_meta(module: &Module<'_, Declared>, meta: &Meta, state: &Rc<VuState>) -> JsResult<()> {
    let ctx = module.ctx();
    match meta {
        Meta::Nothing => Ok(()),
        Meta::Resolve(url) => module.meta()?.set("resolve", resolve_function(ctx, url)?),
        Meta::Load(url) => module.meta()?.set("load", load_function(ctx, state, url)?),
    }
}

fn load_function<'js>(ctx: &Ctx<'js>, state: &Rc<VuState>, url: &str) -> JsResult<Function<'js>> {
    let (url, state): (Box<str>, _) = (url.into(), state.clone());
    Function::new(ctx.clone(), move |ctx: Ctx<'js>| {
        require::load(&ctx, &state, &url)
    })
}

fn resolve_function<'js>(ctx: &Ctx<'js>, url: &str) -> JsResult<Function<'js>> {
    let url: Box<str> = url.into();
    Function::new(
        ctx.clone(),
        move |ctx: Ctx<'_>, specifier: rquickjs::function::Opt<Value<'_>>| {
            let specifier = specifier.0.map(|s| error::to_text(&s)).unwrap_or_default();
            loader::resolve(&url, &specifier)
                .map(|url| loader::escape(&url))
                .map_err(|text| error::throw(&ctx, &text))
        },
    )?
    .with_name("resolve")
}

/// Says that a name is missing in the words of k6, where the engine has its own.
pub(crate) fn retell(state: &VuState, thrown: &Value<'_>) {
    let Some(object) = thrown.as_object().filter(|_| thrown.is_error()) else {
        return;
    };
    let Ok(message) = object.get::<_, String>("message") else {
        return;
    };
    let parts = message
        .strip_prefix("Could not find export '")
        .and_then(|rest| rest.strip_suffix('\''))
        .and_then(|rest| rest.split_once("' in module '"));
    let Some((name, module)) = parts else {
        return;
    };
    let specifier = state.script.graph(|graph| graph.specifier_of(module));
    let text = format!(
        "The requested module \"{}\" does not provide an export named \"{name}\"",
        specifier.as_deref().unwrap_or(module)
    );
    // An object that refuses it keeps the engine's words.
    if object.set("message", text).is_err() {
        let _ = thrown.ctx().catch();
    }
}

/// The resolver and loader of one VU: they look up what [`prepare`] has found.
pub(crate) struct VuLoader(pub(crate) Rc<VuState>);

impl Resolver for VuLoader {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> JsResult<String> {
        if !self.0.linking.get() {
            // Nobody but `import()` asks at any other time.
            let text = "dynamic modules not enabled in the host program";
            return Err(rquickjs::Exception::throw_type(ctx, text));
        }
        let found = self.0.script.graph(|graph| {
            let unit = graph.units.get(base)?;
            unit.request(name).map(str::to_owned)
        });
        Ok(found.unwrap_or_else(|| name.to_owned()))
    }
}

impl Loader for VuLoader {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> JsResult<Module<'js, Declared>> {
        if let Some(module) = modules::module(name) {
            return (module.declare)(ctx, name);
        }
        let (unit, broken) = self
            .0
            .script
            .graph(|graph| (graph.unit(name), graph.broken.get(name).cloned()));
        if let Some(text) = broken {
            return Err(error::throw(ctx, &text));
        }
        let Some(unit) = unit else {
            return Err(Error::new_loading(name));
        };
        let module = match &unit.code {
            Code::Module { text, compiled } => match compiled.get() {
                Some(code) => engine::load(ctx, code)?,
                None => self.compile(ctx, name, text, compiled)?,
            },
            Code::Source(text) => Module::declare(ctx.clone(), name, &**text)
                .map_err(|error| self.refused(ctx, name, text, error))?,
            Code::CommonJs(_) | Code::Leaf(_) => return Err(Error::new_loading(name)),
        };
        give_meta(&module, &unit.meta, &self.0)?;
        Ok(module)
    }
}

impl VuLoader {
    /// Compiles a module, and with it, by way of this loader, what it imports.
    fn compile<'js>(
        &self,
        ctx: &Ctx<'js>,
        name: &str,
        text: &Mutex<Option<Vec<u8>>>,
        compiled: &OnceLock<Bytecode>,
    ) -> JsResult<Module<'js, Declared>> {
        let text = text.lock().unwrap_or_else(|e| e.into_inner()).take();
        let Some(text) = text else {
            return Err(Error::new_loading(name));
        };
        match engine::compile(ctx, name, &text) {
            Ok((module, code)) => {
                // Set once: the text was there.
                let _ = compiled.set(code);
                Ok(module)
            }
            Err(error) => Err(self.refused(ctx, name, &text, error)),
        }
    }

    /// Remembers why a module, or one that it imports, was not compiled.
    fn refused(&self, ctx: &Ctx<'_>, name: &str, text: &[u8], error: Error) -> Error {
        // Told already by the module that this one imports.
        if self.0.load_failure.borrow().is_some() {
            return error;
        }
        let text = rejected(&self.0, ctx, name, text, error);
        *self.0.load_failure.borrow_mut() = Some(text.clone());
        error::throw(ctx, &text)
    }
}
