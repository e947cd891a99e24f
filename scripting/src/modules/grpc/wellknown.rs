//! Messages of gRPC's own services, and those in which servers explain errors.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, MessageDescriptor, prost_types};
use protox::{
    Compiler,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver},
};

/// `google.rpc.Status`: what `grpc-status-details-bin` holds.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<prost_types::Any>,
}

/// The method that tells how a service is.
pub(super) const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// The service by which servers describe themselves, and how it was called before.
pub(super) const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// `grpc.reflection.v1.ServerReflectionRequest`, of which one field is set.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReflectionRequest {
    #[prost(string, optional, tag = "3")]
    pub(super) file_by_filename: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(super) file_containing_symbol: Option<String>,
    #[prost(string, optional, tag = "7")]
    pub(super) list_services: Option<String>,
}

/// `grpc.reflection.v1.ServerReflectionResponse`, of which one field is set.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReflectionResponse {
    #[prost(message, optional, tag = "4")]
    pub(super) files: Option<ReflectedFiles>,
    #[prost(message, optional, tag = "6")]
    pub(super) services: Option<ReflectedServices>,
    #[prost(message, optional, tag = "7")]
    pub(super) error: Option<ReflectionError>,
}

/// `FileDescriptorResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReflectedFiles {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) file_descriptor_proto: Vec<Vec<u8>>,
}

/// `ListServiceResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReflectedServices {
    #[prost(message, repeated, tag = "1")]
    pub(super) service: Vec<ReflectedService>,
}

/// `ServiceResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReflectedService {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// `ErrorResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReflectionError {
    #[prost(int32, tag = "1")]
    pub(super) error_code: i32,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

/// The messages of `google/rpc/error_details.proto` (googleapis), by which most servers explain.
const ERROR_DETAILS: &str = r#"
syntax = "proto3";
package google.rpc;
import "google/protobuf/duration.proto";
message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
message RetryInfo { google.protobuf.Duration retry_delay = 1; }
message DebugInfo { repeated string stack_entries = 1; string detail = 2; }
message QuotaFailure {
  message Violation {
    string subject = 1; string description = 2; string api_service = 3; string quota_metric = 4;
    string quota_id = 5; map<string, string> quota_dimensions = 6; int64 quota_value = 7;
    optional int64 future_quota_value = 8;
  }
  repeated Violation violations = 1;
}
message PreconditionFailure {
  message Violation { string type = 1; string subject = 2; string description = 3; }
  repeated Violation violations = 1;
}
message BadRequest {
  message FieldViolation {
    string field = 1; string description = 2; string reason = 3;
    LocalizedMessage localized_message = 4;
  }
  repeated FieldViolation field_violations = 1;
}
message RequestInfo { string request_id = 1; string serving_data = 2; }
message ResourceInfo {
  string resource_type = 1; string resource_name = 2; string owner = 3; string description = 4;
}
message Help {
  message Link { string description = 1; string url = 2; }
  repeated Link links = 1;
}
message LocalizedMessage { string locale = 1; string message = 2; }
"#;

/// Compiled when the first error with details comes.
static DETAILS: LazyLock<DescriptorPool> =
    LazyLock::new(|| compile(ERROR_DETAILS).unwrap_or_else(|_| DescriptorPool::global()));

/// A description that is part of the program.
fn compile(source: &'static str) -> Result<DescriptorPool, protox::Error> {
    struct Only(&'static str);
    impl FileResolver for Only {
        fn open_file(&self, name: &str) -> Result<File, protox::Error> {
            match name {
                "only.proto" => File::from_source(name, self.0),
                _ => Err(protox::Error::file_not_found(name)),
            }
        }
    }
    let mut resolver = ChainFileResolver::new();
    resolver.add(Only(source));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.open_file("only.proto")?;
    Ok(compiler.descriptor_pool())
}

/// The description of a message in which servers explain errors.
pub(super) fn detail(name: &str) -> Option<MessageDescriptor> {
    DETAILS.get_message_by_name(name)
}

/// The description of a file that every compiler of `.proto` files has: `google/protobuf/…`.
pub(super) fn standard_file(name: &str) -> Option<prost_types::FileDescriptorProto> {
    let file = GoogleFileResolver::new().open_file(name).ok()?;
    Some(file.file_descriptor_proto().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_explains_errors_compiles() {
        compile(ERROR_DETAILS).expect("a pool");
        assert!(detail("google.rpc.BadRequest").is_some());
        assert!(standard_file("google/protobuf/any.proto").is_some());
    }
}
