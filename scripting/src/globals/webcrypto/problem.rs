//! Why an operation was refused: the name and text of what its promise is rejected with.

/// A rejection. The names are those of the web's `DOMException`, and k6's `ImplementationError`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) name: &'static str,
    pub(super) text: String,
}

impl Problem {
    fn new(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            name,
            text: text.into(),
        }
    }

    /// Key material or a format is not what it should be.
    pub(super) fn data(text: impl Into<String>) -> Self {
        Self::new("DataError", text)
    }

    /// The key does not allow it.
    pub(super) fn access(text: impl Into<String>) -> Self {
        Self::new("InvalidAccessError", text)
    }

    /// Allowed elsewhere, not here.
    pub(super) fn implementation(text: impl Into<String>) -> Self {
        Self::new("ImplementationError", text)
    }

    /// The algorithm cannot do that.
    pub(super) fn not_supported(text: impl Into<String>) -> Self {
        Self::new("NotSupportedError", text)
    }

    /// The computation failed, or a parameter makes it impossible.
    pub(super) fn operation(text: impl Into<String>) -> Self {
        Self::new("OperationError", text)
    }

    /// Usages that do not go with the key.
    pub(super) fn syntax(text: impl Into<String>) -> Self {
        Self::new("SyntaxError", text)
    }

    /// A parameter is missing or of the wrong type.
    pub(super) fn kind(text: impl Into<String>) -> Self {
        Self::new("TypeError", text)
    }
}
