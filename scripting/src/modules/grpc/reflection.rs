//! Descriptions from the server itself: gRPC's reflection, as version 1, or as version 1alpha where
//! a server has only that.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use prost::Message;
use prost_reflect::prost_types::{FileDescriptorProto, FileDescriptorSet};
use volley_net::{Call, CallRequest, Channel, Event, Outcome, StatusCode};

use super::wellknown::{REFLECTION, ReflectionRequest, ReflectionResponse, standard_file};

/// One conversation with the server, for the metrics.
pub(super) struct Asked {
    pub(super) path: &'static str,
    pub(super) begun: Instant,
    pub(super) outcome: Outcome,
}

/// What the server has to tell of its services, with everything that their files import. `terms` are
/// what goes along with the questions, and how long the answers may take.
///
/// # Errors
/// What the script is told.
pub(super) async fn describe(
    channel: &Channel,
    terms: &CallRequest,
    asked: &mut Vec<Asked>,
) -> Result<FileDescriptorSet, String> {
    let mut failure = None;
    for path in REFLECTION {
        let request = CallRequest {
            path: path.to_owned(),
            ..terms.clone()
        };
        let begun = Instant::now();
        let mut conversation = match channel.begin(&request).await {
            Ok(call) => Conversation { call, end: None },
            Err(status) => return Err(format!("error invoking reflect API: {status}")),
        };
        let told = conversation.files().await;
        let outcome = conversation.leave().await;
        let unimplemented = outcome.status.code == StatusCode::UNIMPLEMENTED;
        asked.push(Asked {
            path,
            begun,
            outcome,
        });
        match told {
            Ok(files) => return Ok(FileDescriptorSet { file: files }),
            Err(text) if unimplemented => failure = Some(text),
            Err(text) => return Err(text),
        }
    }
    Err(failure.unwrap_or_default())
}

struct Conversation {
    call: Call,
    /// How it has ended, if it has.
    end: Option<Outcome>,
}

impl Conversation {
    /// One question and its answer.
    async fn ask(&mut self, question: &ReflectionRequest) -> Result<ReflectionResponse, String> {
        self.call.send(&question.encode_to_vec().into());
        match self.call.next().await {
            Event::Message(answer) => {
                let answer = ReflectionResponse::decode(answer)
                    .map_err(|e| format!("error invoking reflect API: {e}"))?;
                match answer.error {
                    None => Ok(answer),
                    Some(error) => Err(format!(
                        "error invoking reflect API: rpc error: code = {} desc = {}",
                        StatusCode(error.error_code as u32),
                        error.error_message
                    )),
                }
            }
            Event::End(outcome) => {
                let text = format!("error invoking reflect API: {}", outcome.status);
                self.end = Some(*outcome);
                Err(text)
            }
        }
    }

    /// Every file of every service, and what they import; each after what it imports.
    async fn files(&mut self) -> Result<Vec<FileDescriptorProto>, String> {
        let services = self
            .ask(&ReflectionRequest {
                list_services: Some("*".to_owned()),
                ..ReflectionRequest::default()
            })
            .await?;
        let mut known = BTreeMap::new();
        for service in services.services.unwrap_or_default().service {
            let question = ReflectionRequest {
                file_containing_symbol: Some(service.name),
                ..ReflectionRequest::default()
            };
            let answer = self.ask(&question).await?;
            keep(&mut known, answer)?;
        }
        while let Some(missing) = missing(&known) {
            let question = ReflectionRequest {
                file_by_filename: Some(missing.clone()),
                ..ReflectionRequest::default()
            };
            let answer = match standard_file(&missing) {
                Some(file) => {
                    known.insert(missing, file);
                    continue;
                }
                None => self.ask(&question).await?,
            };
            keep(&mut known, answer)?;
            if !known.contains_key(&missing) {
                return Err(format!(
                    "error invoking reflect API: the server does not give the file {missing:?}, \
                     which another imports; load the files with client.load() instead"
                ));
            }
        }
        Ok(sorted(known))
    }

    /// Ends the conversation; answers how.
    async fn leave(mut self) -> Outcome {
        self.call.finish();
        loop {
            if let Some(outcome) = self.end.take() {
                return outcome;
            }
            if let Event::End(outcome) = self.call.next().await {
                self.end = Some(*outcome);
            }
        }
    }
}

type Known = BTreeMap<String, FileDescriptorProto>;

fn keep(known: &mut Known, answer: ReflectionResponse) -> Result<(), String> {
    for bytes in answer.files.unwrap_or_default().file_descriptor_proto {
        let file = FileDescriptorProto::decode(&bytes[..])
            .map_err(|e| format!("error invoking reflect API: {e}"))?;
        known.insert(file.name().to_owned(), file);
    }
    Ok(())
}

/// A file that another imports and nobody has yet.
fn missing(known: &Known) -> Option<String> {
    let mut imports = known.values().flat_map(|file| &file.dependency);
    imports.find(|name| !known.contains_key(*name)).cloned()
}

fn sorted(mut known: Known) -> Vec<FileDescriptorProto> {
    let mut files: Vec<FileDescriptorProto> = Vec::with_capacity(known.len());
    let mut placed: BTreeSet<String> = BTreeSet::new();
    while !known.is_empty() {
        let free = |file: &FileDescriptorProto| file.dependency.iter().all(|d| placed.contains(d));
        let next = known.iter().find(|(_, file)| free(file));
        // Files in a circle are for the descriptor pool to refuse.
        let next = next.or_else(|| known.iter().next());
        let Some(name) = next.map(|(name, _)| name.clone()) else {
            break;
        };
        files.extend(known.remove(&name));
        placed.insert(name);
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_after_what_they_import() {
        let file = |name: &str, imports: &[&str]| {
            let file = FileDescriptorProto {
                name: Some(name.to_owned()),
                dependency: imports.iter().map(|i| (*i).to_owned()).collect(),
                ..FileDescriptorProto::default()
            };
            (name.to_owned(), file)
        };
        let known: Known = [file("a", &["c"]), file("b", &[]), file("c", &["b"])].into();
        let names: Vec<_> = sorted(known.clone())
            .iter()
            .map(|f| f.name().to_owned())
            .collect();
        assert_eq!(names, ["b", "c", "a"]);
        let known: Known = [file("a", &["c"])].into();
        assert_eq!(missing(&known).as_deref(), Some("c"));
    }
}
