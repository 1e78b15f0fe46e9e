"""What an S3 server's answers mean: missing, conflict, denied, unavailable.

Unavailable may be tried again, the rest may not. Messages name the right or the credential that is missing; nothing of
a request's signature is ever quoted.
"""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    MissingParametersError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError as TransportError
from urllib3.exceptions import ReadTimeoutError as BodyReadTimeoutError

from ray_darts.artifacts.objects import Conflict
from ray_darts.errors import ConfigError, MissingObject, RayDartsError, StoreDenied, StoreError, StoreUnavailable

_RIGHTS = {
    "get": "s3:GetObject (or s3:ListBucket on the bucket, without which S3 answers 403 for a key that is missing)",
    "put": "s3:PutObject (with KMS encryption also kms:GenerateDataKey and kms:Decrypt)",
    "delete": "s3:DeleteObject",
    "list": "s3:ListBucket",
}
_CREDENTIALS = {
    "InvalidAccessKeyId": "the access key is unknown to the server",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key (or a proxy changed the request)",
    "ExpiredToken": "the session token has expired and this node's credential chain has no newer one",
    "ExpiredTokenException": "the session token has expired and this node's credential chain has no newer one",
    "TokenRefreshRequired": "the session token has expired and this node's credential chain has no newer one",
    "InvalidToken": "the session token is not valid",
    "RequestTimeTooSkewed": "this node's clock is off by more than 15 minutes",
    "AuthorizationHeaderMalformed": "the bucket lies in another region; set store.region",
}
_DENYING = (
    NoCredentialsError,
    PartialCredentialsError,
    NoAuthTokenError,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
_ASKING = (NoRegionError, ParamValidationError, ProfileNotFound, MissingParametersError)
_TRY_AGAIN = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "XAmzContentSHA256Mismatch",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
    }
)


def is_bad_request(error: ClientError) -> bool:
    """Whether the server answers 400: the request contradicts itself, as an object and another one's checksum do."""
    return bool(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 400)


def translated(
    error: ClientError | BotoCoreError | TransportError | ResponseParserError, right: str, key: str, uri: str
) -> RayDartsError:
    """The package's error for what boto3 raised; `right` is get, put, delete or list."""
    if isinstance(error, ClientError):
        return _answer(error, right, key, uri)
    if isinstance(error, _DENYING):
        return StoreDenied(f"{uri}: no usable credentials on this node: {error}", key=key)
    if isinstance(error, _ASKING):
        return ConfigError(f"{uri} cannot be asked: {error}")
    longer = "; a server that needs longer wants a greater store.read_timeout_s" if _is_read_timeout(error) else ""
    return StoreUnavailable(f"{uri} does not answer for {key or 'a listing'}: {error}{longer}", key=key)


def _answer(error: ClientError, right: str, key: str, uri: str) -> RayDartsError:
    code = _code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return ConfigError(f"{uri}: there is no such bucket")
    if code in _CREDENTIALS:
        return StoreDenied(f"{uri}: {_CREDENTIALS[code]} ({code})", key=key)
    if status == 404:
        return MissingObject(f"there is no {key} in {uri}", key=key)
    if status == 412:
        return Conflict(f"{key} in {uri} exists already or has changed", key=key)
    if status in (401, 403):
        return StoreDenied(
            f"{uri} denies {key or 'a listing'} ({code}): the right {_RIGHTS[right]} is missing", key=key, right=right
        )
    if (status >= 500 and status != 501) or status in (408, 409, 425, 429) or code in _TRY_AGAIN:
        return StoreUnavailable(f"{uri} answers {status} {code} for {key or 'a listing'}", key=key)
    if status == 501:
        return StoreError(
            f"{uri} does not know a request that this store needs ({code}); see ray-darts doctor", key=key
        )
    message = error.response.get("Error", {}).get("Message")
    reason = f"{status} {code}: {message}" if message else f"{status} {code}"
    return StoreError(f"{uri} refuses {key or 'a listing'}: {reason}", key=key)


def _is_read_timeout(error: Exception) -> bool:
    return isinstance(error, ReadTimeoutError | BodyReadTimeoutError)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
