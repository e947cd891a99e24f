//! Descriptions of services and messages: from `.proto` files, compiled here, or from sets that
//! `protoc` has made of such files.
//!
//! What a script loads is compiled once in the process, whatever the number of its VUs
//! (`Script::descriptors`). Files are the script's files like all others, so an archive holds them
//! and everything they import.

use std::{path::Path, sync::Arc};

use prost_reflect::{DescriptorPool, MethodDescriptor};
use protox::{
    Compiler, Error,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver},
};
use rquickjs::{Array, Ctx, Object, Result as JsResult};

use crate::{
    loader::{self, FileError},
    script::Script,
};

/// Compiles `.proto` files, which are looked for in each of these folders; relative ones start at
/// the folder of the main script, which is also what no folder means.
///
/// # Errors
/// The place of what is wrong, or the file that is missing.
pub(super) fn load(
    script: &Arc<Script>,
    folders: &[String],
    names: &[String],
) -> Result<DescriptorPool, String> {
    let given = folders.iter().filter(|folder| !folder.is_empty());
    let mut folders: Vec<String> = given
        .map(|folder| loader::join(script.pwd(), folder))
        .collect();
    if folders.is_empty() {
        folders.push(script.pwd().to_owned());
    }
    let key = format!("proto\0{}\0\0{}", folders.join("\0"), names.join("\0"));
    script.descriptors(key.as_bytes(), || {
        let sources = Sources {
            script: script.clone(),
            folders,
        };
        compile(sources, names)
    })
}

/// Reads a set that `protoc --descriptor_set_out` has made.
///
/// # Errors
/// That there is no such file, or what is wrong with it.
pub(super) fn load_set(script: &Arc<Script>, path: &str) -> Result<DescriptorPool, String> {
    let url = loader::join(script.pwd(), path);
    script.descriptors(format!("protoset\0{url}").as_bytes(), || {
        let content = script.files().read(&url);
        let content = content
            .map_err(|problem| format!("couldn't open protoset: {}", fault(&url, &problem)))?;
        DescriptorPool::decode(&content[..])
            .map_err(|e| format!("couldn't unmarshal protoset file {path}: {e:?}"))
    })
}

fn compile(sources: Sources, names: &[String]) -> Result<DescriptorPool, String> {
    let missing = |name: &str| {
        let url = loader::join(&sources.folders[0], name);
        fault(&url, &FileError::NotFound)
    };
    let missing: Vec<String> = names.iter().map(|name| missing(name)).collect();
    let mut resolver = ChainFileResolver::new();
    resolver.add(sources);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_source_info(false);
    for (name, missing) in names.iter().zip(missing) {
        if let Err(error) = compiler.open_file(name) {
            // Its debug form has the place: `a.proto:3:8: import 'b.proto' not found`. At the end of
            // a file there is none.
            let text = format!("{error:?}");
            return Err(match error.file() {
                None if error.is_file_not_found() => missing,
                Some(file) if !text.starts_with(file) => format!("{file}: {text}"),
                _ => text,
            });
        }
    }
    Ok(compiler.descriptor_pool())
}

/// The script's files, as the compiler asks for them.
struct Sources {
    script: Arc<Script>,
    folders: Vec<String>,
}

impl FileResolver for Sources {
    /// Names are paths below one of the folders, or from the root.
    fn resolve_path(&self, path: &Path) -> Option<String> {
        path.to_str().map(str::to_owned)
    }

    fn open_file(&self, name: &str) -> Result<File, Error> {
        for folder in &self.folders {
            let url = loader::join(folder, name);
            match self.script.files().read(&url) {
                Ok(content) => {
                    let text = std::str::from_utf8(&content)
                        .map_err(|_| Error::new(format!("file '{name}' is not valid utf-8")))?;
                    return File::from_source(name, text);
                }
                // In another folder, or one of those that every compiler has.
                Err(FileError::NotFound) => {}
                Err(problem) => return Err(Error::new(fault(&url, &problem))),
            }
        }
        Err(Error::file_not_found(name))
    }
}

fn fault(url: &str, problem: &FileError) -> String {
    let local = url.trim_start_matches("file://");
    match problem {
        FileError::NotFound => format!("open {local}: no such file or directory"),
        FileError::Directory => format!("read {local}: is a directory"),
        FileError::Closed => format!(
            "open {local}: the file was not opened during initialization (__VU==0), and it is not \
             possible to open it later"
        ),
        FileError::Io(io) => format!("open {local}: {io}"),
    }
}

/// The method of that name, `/package.Service/Method`, in what was loaded last of all that has it.
pub(super) fn method(pools: &[DescriptorPool], path: &str) -> Option<MethodDescriptor> {
    let (service, method) = path.strip_prefix('/')?.rsplit_once('/')?;
    pools.iter().rev().find_map(|pool| {
        let service = pool.get_service_by_name(service)?;
        let mut methods = service.methods();
        methods.find(|known| known.name() == method)
    })
}

/// What scripts are told of the methods in a pool.
pub(super) fn method_list<'js>(ctx: &Ctx<'js>, pool: &DescriptorPool) -> JsResult<Array<'js>> {
    let list = Array::new(ctx.clone())?;
    let services = pool.services();
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    for (index, method) in methods.enumerate() {
        let service = method.parent_service();
        let path = format!("/{}/{}", service.full_name(), method.name());
        let info = Object::new(ctx.clone())?;
        info.set("package", service.package_name())?;
        info.set("service", service.name())?;
        info.set("full_method", path)?;
        info.set("name", method.name())?;
        info.set("is_client_stream", method.is_client_streaming())?;
        info.set("is_server_stream", method.is_server_streaming())?;
        list.set(index, info)?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Files, ScriptSource};

    #[test]
    fn what_is_loaded_again_is_the_same() {
        let file = |name: &str| {
            (
                format!("file:///dir/{name}"),
                b"syntax = \"proto3\";"[..].into(),
            )
        };
        let files = ["a.proto", "b.proto"].map(file);
        let script = Script::new(ScriptSource {
            url: "file:///dir/script.js".to_owned(),
            pwd: "file:///dir".to_owned(),
            code: b"".as_slice().into(),
            files: Files::archive(files.into()),
            env: Vec::new(),
            extended: true,
        });
        let load = |folders: &[&str], name: &str| {
            let folders: Vec<String> = folders.iter().map(|f| (*f).to_owned()).collect();
            super::load(&script, &folders, &[name.to_owned()]).expect("a pool")
        };
        // Pools are equal when they share their data.
        assert_eq!(load(&[], "a.proto"), load(&[], "a.proto"));
        assert_eq!(load(&[], "a.proto"), load(&["", "."], "a.proto"));
        assert_ne!(load(&[], "a.proto"), load(&[], "b.proto"));
    }
}
