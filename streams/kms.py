"""A keyring sealed under a key of AWS KMS: one Encrypt when it is made, one Decrypt at each start.

The blob is what KMS returned, in base64. It is bound to the installation by an encryption context, which must be the
same at both calls and shows in CloudTrail, so it names the namespace and nothing else. Region, endpoint and identity
come from where boto3 looks for them (AWS_REGION, AWS_ENDPOINT_URL_KMS, a role, …): no setting of ours repeats them.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

from todoke.processors.keys import Keyring
from todoke.schemas.errors import Misconfigured

from . import keyfile

LARGEST = 4096
"""Of what Encrypt takes under a symmetric key, in bytes (AWS KMS API reference, Encrypt): some seventy keys."""

FIXES = {
    "AccessDeniedException": "allow this identity kms:Decrypt under that key and this encryption context",
    "DisabledException": "enable the key in KMS, or restore the keyring under another",
    "IncorrectKeyException": "seal the keyring again with `todoke keys seal`",
    "InvalidCiphertextException": "the file was changed, or sealed for another namespace: seal it again",
    "KMSInvalidStateException": "the key is disabled or about to be deleted: cancel that, first of all",
    "NotFoundException": "correct region and account, or restore the keyring under another key",
    "UnrecognizedClientException": "correct the credentials of this identity",
    "ExpiredTokenException": "renew the credentials of this identity",
    "NoCredentialsError": "give this process a role, or credentials where boto3 looks for them",
    "NoRegionError": "set AWS_REGION",
    "EndpointConnectionError": "let this process reach KMS, or correct AWS_ENDPOINT_URL_KMS",
}


def context(namespace: str) -> dict[str, str]:
    """What the blob is bound to. KMS takes no empty value, so an installation without a namespace is called `-`."""
    return {"todoke": "keyring", "namespace": namespace or "-"}


def sealed(keyring: Keyring, key_id: str, namespace: str) -> str:
    """The keyring under the KMS key `key_id` (id, ARN or alias). Raises `Misconfigured`."""
    plain = keyfile.dump(keyring).encode()
    if len(plain) > LARGEST:
        raise Misconfigured(f"keys: a keyring of {len(plain)} bytes, KMS takes {LARGEST}: remove retired generations")
    answer = _call("encrypt", KeyId=key_id, Plaintext=plain, EncryptionContext=context(namespace))
    return base64.b64encode(answer["CiphertextBlob"]).decode() + "\n"


def opened(path: Path, namespace: str) -> str:
    """The text of the keyring sealed in `path`. Raises `Misconfigured`."""
    try:
        blob = base64.b64decode("".join(path.read_text().split()), validate=True)
    except OSError as error:
        raise Misconfigured(f"keys: {path}: {error.strerror}: make it with `todoke keys seal`") from None
    except (binascii.Error, ValueError):
        raise Misconfigured(f"keys: {path}: expected base64: make it with `todoke keys seal`") from None
    answer = _call("decrypt", CiphertextBlob=blob, EncryptionContext=context(namespace))
    return bytes(answer["Plaintext"]).decode("utf-8", "replace")


def _call(name: str, **arguments: Any) -> Any:
    """One call to KMS. What it raises is said by its code alone: an answer's text may quote what was sent."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise Misconfigured("keys: aws-kms: boto3 is missing: install todoke[aws]") from None
    try:
        return getattr(boto3.client("kms"), name)(**arguments)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
    except BotoCoreError as error:
        code = type(error).__name__
    raise Misconfigured(f"keys: aws-kms: {name}: {code}: {FIXES.get(code, 'see what KMS means by it')}")
