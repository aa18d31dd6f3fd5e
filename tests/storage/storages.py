"""Buckets for the tests."""

import uuid
from typing import Any

from aiobotocore.session import get_session

from condastore.storage.s3 import S3Storage
from devtools.servers import S3Server


async def bucket_of(server: S3Server, **traits: Any) -> S3Storage:
    """Returns a storage with an empty bucket of its own on a server."""
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    client = get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=f"http://{server.endpoint}",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    async with client as found:
        await found.create_bucket(Bucket=bucket)
    return S3Storage(**{**server.settings(), "bucket_name": bucket, **traits})
