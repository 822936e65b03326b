"""Storages of one process share boto3's clients, and none notices the others."""

from __future__ import annotations

import dataclasses
import os
import threading
from contextlib import closing

import pytest
from rings import sse_c
from servers.faults import answer
from sites import wait_until

from collective.s3blobstorage.errors import ConfigurationError, Unavailable
from collective.s3blobstorage.objectstore import clients, open_store


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = dict(clients._shared)
    yield
    assert clients._shared == before


def test_two_prefixes_of_a_bucket_have_one_pair(settings):
    other = dataclasses.replace(settings, prefix="other")
    with closing(open_store(settings)) as one, closing(open_store(other)) as two:
        assert one.connection.clients.reader is two.connection.clients.reader
        assert one.connection.clients.writer is two.connection.clients.writer
        one.put_bytes("key", b"one")
        two.put_bytes("key", b"two")
        assert (one.get_bytes("key"), two.get_bytes("key")) == (b"one", b"two")
        assert [line.key for line in two.list()] == ["key"]


@pytest.mark.parametrize(
    "change",
    [{"secret_key": "another"}, {"download_read_timeout": 3.0}, {"region": "eu-west-3"}, {"max_pool_connections": 3}],
    ids=lambda change: next(iter(change)),
)
def test_what_makes_a_client_another_one_is_not_shared(settings, change):
    with closing(open_store(settings)) as one, closing(open_store(dataclasses.replace(settings, **change))) as two:
        assert one.connection.clients.reader is not two.connection.clients.reader


def test_nor_is_it_when_the_environment_changed(settings, monkeypatch):
    with closing(open_store(settings)) as one:
        monkeypatch.setenv("AWS_CA_BUNDLE", "/another")
        with closing(open_store(settings)) as two:
            assert one.connection.clients.reader is not two.connection.clients.reader


def test_the_last_one_closes_them(settings, proxy):
    settings = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    one, two = open_store(settings), open_store(dataclasses.replace(settings, prefix="other"))
    assert one.head("key") is None
    one.close()
    one.close()
    before = set(proxy._connections)
    assert two.head("key") is None
    assert len(before) == 1 and set(proxy._connections) == before  # it went on over the connection that was open
    http = two.connection.reader._endpoint.http_session
    two.close()
    assert len(http._manager.pools) == 0


def test_a_failed_opening_gives_them_back(settings):
    plain = dataclasses.replace(settings, encryption=sse_c(b"k" * 32), endpoint_url="http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="clear text"):
        open_store(plain)


def test_an_outage_is_each_ones_own_to_notice(settings, proxy):
    settings = dataclasses.replace(
        settings, endpoint_url=proxy.endpoint_url, outage_patience=0.2, download_max_attempts=1
    )
    with closing(open_store(settings)) as one, closing(open_store(dataclasses.replace(settings, prefix="b"))) as two:
        two.put_bytes("key", b"data")
        proxy.fail(answer(503), target="a-key", times=1000)
        with pytest.raises(Unavailable):
            one.get_bytes("a-key")
        assert two.get_bytes("key") == b"data"


def test_a_forked_child_has_its_own(settings):
    with closing(open_store(settings)) as one:
        one.put_bytes("key", b"data")
        child = os.fork()
        if child == 0:
            try:
                with closing(open_store(settings)) as two:
                    fine = (
                        two.connection.clients.reader is not one.connection.clients.reader
                        and two.get_bytes("key") == b"data"
                    )
                os._exit(0 if fine else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert one.get_bytes("key") == b"data"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_store_that_was_opened_before_the_fork_gets_connections_of_its_own(settings, request, scheme):
    """Two processes that ask on one connection would get each other's answers."""
    if scheme == "https":
        proxy, behind = request.getfixturevalue("tls_proxy"), request.getfixturevalue("secure")
    else:
        proxy = request.getfixturevalue("proxy")
        behind = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    data = {"parent": os.urandom(50_000), "child": os.urandom(50_000)}
    with closing(open_store(behind)) as store:
        for key, octets in data.items():
            store.put_bytes(key, octets)
            assert store.get_bytes(key) == octets
        store.connect_ahead()
        wait_until(lambda: proxy.accepted >= 8)

        def read(key):
            return all(store.get_bytes(key) == data[key] for _ in range(40)) and store.put_bytes(key, data[key])

        proxy.reset()
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if read("child") else 1)
            finally:
                os._exit(2)
        assert read("parent")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert proxy.methods() == {"GET": 80, "PUT": 2}, "each at the first attempt"
        assert store.get_bytes("parent") == data["parent"]


def test_many_threads_open_and_close(settings):
    failures = []

    def work(number):
        try:
            for turn in range(5):
                with closing(open_store(dataclasses.replace(settings, prefix=f"p{number}"))) as store:
                    store.put_bytes(f"key{turn}", b"data")
                    assert store.get_bytes(f"key{turn}") == b"data"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
