"""One download with a Python client: peers.py HOW ENDPOINT BUCKET KEY FILE, in an interpreter of its own."""

import sys


def boto3_client(endpoint):
    import boto3
    from botocore.config import Config

    # A bucket as part of an IP address is no host name.
    return boto3.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))


def with_boto3(endpoint, bucket, key, file, **settings):
    from boto3.s3.transfer import TransferConfig

    config = TransferConfig(preferred_transfer_client="classic", **settings)
    boto3_client(endpoint).download_file(bucket, key, file, Config=config)


def with_crt(endpoint, bucket, key, file, **settings):
    # As boto3 and aws-cli set it up; themselves they go to no other endpoint than that of AWS with it.
    import botocore.session
    from botocore.config import Config
    from s3transfer.crt import (
        BotocoreCRTCredentialsWrapper,
        BotocoreCRTRequestSerializer,
        CRTTransferManager,
        create_s3_crt_client,
    )

    session = botocore.session.get_session()
    credentials = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
    client = create_s3_crt_client("us-east-1", credentials, use_ssl=False, **settings)
    config = Config(s3={"addressing_style": "path"})
    serializer = BotocoreCRTRequestSerializer(session, {"endpoint_url": endpoint, "config": config})
    with CRTTransferManager(client, serializer) as manager:
        manager.download(bucket, key, file).result()


def with_obstore(endpoint, bucket, key, file, chunk):
    import obstore
    from obstore.store import S3Store

    store = S3Store(bucket, endpoint=endpoint, client_options={"allow_http": True}, virtual_hosted_style_request=False)
    with open(file, "wb") as output:
        for piece in obstore.get(store, key).stream(min_chunk_size=chunk):
            output.write(piece)


MIB = 1 << 20
HOW = {
    "boto3": lambda *place: with_boto3(*place),
    "boto3-tuned": lambda *place: with_boto3(
        *place, max_concurrency=2, multipart_chunksize=64 * MIB, io_chunksize=MIB
    ),
    "crt": lambda *place: with_crt(*place),
    "crt-tuned": lambda *place: with_crt(*place, part_size=16 * MIB),
    "obstore": lambda *place: with_obstore(*place, chunk=10 * MIB),
    "obstore-tuned": lambda *place: with_obstore(*place, chunk=MIB),
}

if __name__ == "__main__":
    how, *place = sys.argv[1:]
    HOW[how](*place)
