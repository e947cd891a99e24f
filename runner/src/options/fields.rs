//! The one way in which JSON becomes typed settings: every group of settings, the options of a
//! test as well as those of one executor, is a struct of optional fields made by [`fields!`], so
//! that "unset" always differs from "set to the default" and a key is written down once.

use serde_json::{Map, Value};

/// Why a value cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bad {
    /// JSON of another type: what was found, and what is wanted.
    Type(String, &'static str),
    /// The right type, but no meaning: a sentence for the user.
    Value(String),
}

impl Bad {
    /// A value of the wrong JSON type.
    pub(crate) fn type_of(found: &Value, wanted: &'static str) -> Self {
        let found = match found {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if number.is_f64() => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        Self::Type(found, wanted)
    }

    /// A key that a strict group does not have.
    pub(crate) fn unknown_field(key: &str) -> Self {
        Self::Value(unknown_field(key))
    }
}

/// The text for a key that nobody knows.
pub(crate) fn unknown_field(key: &str) -> String {
    format!("json: unknown field {}", Value::from(key))
}

/// A type that a setting can have.
pub(crate) trait FieldValue: Sized {
    /// Reads a value that is not null; `None` when it means "unset".
    fn decode(value: &Value) -> Result<Option<Self>, Bad>;
    /// Writes the value as archives and `inspect` show it.
    fn encode(&self) -> Value;
}

/// Reads a value; null is "unset" for every type.
pub(crate) fn decode<T: FieldValue>(value: &Value) -> Result<Option<T>, Bad> {
    match value {
        Value::Null => Ok(None),
        value => T::decode(value),
    }
}

/// Writes a setting; unset is null.
pub(crate) fn encode<T: FieldValue>(value: Option<&T>) -> Value {
    value.map_or(Value::Null, T::encode)
}

/// A group of optional settings, each under its JSON key.
pub(crate) trait Fields {
    /// Reads the setting of that key; `false` when there is no such key.
    fn set(&mut self, key: &str, value: &Value) -> Result<bool, Bad>;
    /// Writes all settings in their order, the unset ones as null.
    fn encode_into(&self, object: &mut Map<String, Value>);
    /// Replaces what the other has set.
    fn overlay(&mut self, stronger: Self)
    where
        Self: Sized;
}

/// Reads an object whose every key must be known.
pub(crate) fn decode_strict(fields: &mut dyn Fields, value: &Value) -> Result<(), Bad> {
    let object = value
        .as_object()
        .ok_or_else(|| Bad::type_of(value, "object"))?;
    for (key, value) in object {
        if !fields.set(key, value)? {
            return Err(Bad::unknown_field(key));
        }
    }
    Ok(())
}

/// Declares a struct of optional settings with their JSON keys, in the order they are written;
/// after `keyless`, settings that JSON does not have.
macro_rules! fields {
    (
        $(#[$about:meta])*
        $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $key:literal,)* }
        $(keyless { $($(#[$keyless_doc:meta])* $keyless:ident: $keyless_type:ty,)* })?
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $field: Option<$type>,)*
            $($($(#[$keyless_doc])* pub(crate) $keyless: Option<$keyless_type>,)*)?
        }

        impl $crate::options::fields::Fields for $name {
            fn set(
                &mut self,
                key: &str,
                value: &serde_json::Value,
            ) -> Result<bool, $crate::options::fields::Bad> {
                match key {
                    $($key => self.$field = $crate::options::fields::decode(value)?,)*
                    _ => return Ok(false),
                }
                Ok(true)
            }

            fn encode_into(&self, object: &mut serde_json::Map<String, serde_json::Value>) {
                $(object.insert(
                    $key.to_owned(),
                    $crate::options::fields::encode(self.$field.as_ref()),
                );)*
            }

            fn overlay(&mut self, stronger: Self) {
                $(if stronger.$field.is_some() {
                    self.$field = stronger.$field;
                })*
                $($(if stronger.$keyless.is_some() {
                    self.$keyless = stronger.$keyless;
                })*)?
            }
        }
    };
}

pub(crate) use fields;
