//! Classes of errors of DynamoDB.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use crate::http::with_causes;
use crate::{Failure, StoreError, Trouble};

/// Turns an error of the SDK into one of a store.
pub(super) fn failure<E>(error: &SdkError<E>, table: &str) -> StoreError
where
    SdkError<E>: ProvideErrorMetadata + std::error::Error,
{
    match error {
        SdkError::TimeoutError(_) => return StoreError::TimedOut,
        SdkError::ServiceError(_) => (),
        _ => {
            let text = with_causes(error);
            // The chain of credentials fails before anything is sent.
            let is_login = text.to_ascii_lowercase().contains("credential");
            let trouble = if is_login { Trouble::Denied } else { Trouble::Unreachable };
            return Failure::new(trouble, text).into();
        }
    }
    let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
    let trouble = trouble(code, message);
    let text = match code {
        "ResourceNotFoundException" => format!("table `{table}` does not exist in this region"),
        _ => format!("{code}: {message}"),
    };
    Failure::new(trouble, text).into()
}

/// Returns the class of a failure by its code.
fn trouble(code: &str, message: &str) -> Trouble {
    match code {
        "ResourceNotFoundException" | "TableNotFoundException" => Trouble::Missing,
        // The table has other keys.
        "ValidationException" if message.contains("key") || message.contains("schema") => Trouble::Missing,
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "ExpiredTokenException"
        | "KMSAccessDeniedException" => Trouble::Denied,
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "ResourceInUseException"
        | "TransactionConflictException"
        | "TransactionInProgressException"
        | "InternalServerError"
        | "ServiceUnavailable" => Trouble::Busy,
        "ItemCollectionSizeLimitExceededException" => Trouble::Full,
        _ => Trouble::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_classes() {
        for (code, message, expected) in [
            ("ResourceNotFoundException", "", Trouble::Missing),
            ("ValidationException", "The provided key element does not match the schema", Trouble::Missing),
            ("ValidationException", "Item size has exceeded the maximum allowed size", Trouble::Refused),
            ("AccessDeniedException", "", Trouble::Denied),
            ("UnrecognizedClientException", "", Trouble::Denied),
            ("ProvisionedThroughputExceededException", "", Trouble::Busy),
            ("ThrottlingException", "", Trouble::Busy),
            ("InternalServerError", "", Trouble::Busy),
            ("", "", Trouble::Refused),
        ] {
            assert_eq!(trouble(code, message), expected, "{code}");
        }
    }
}
