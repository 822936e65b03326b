"""What the command says about an error: one sentence with the setting to look at; how it prints sizes."""

from __future__ import annotations

import pytest

from collective.s3blobstorage.errors import ConfigurationError, ObjectMissing, Refused, Unavailable
from collective.s3blobstorage.messages import byte_count, mend, sentence


@pytest.mark.parametrize(
    "error, said",
    [
        (ConfigurationError("owner 'x'\n is wrong"), "owner 'x' is wrong"),
        (Unavailable("It is down."), "It is down. Look at s3-endpoint-url, the network, and the store itself."),
        (Unavailable("The bucket is not there (bucket-name)."), "The bucket is not there (bucket-name)."),
        (Refused("No."), "No. Look at s3-access-key, s3-secret-key and the policy of these credentials."),
        (ObjectMissing("Gone."), "Gone. Look at s3-endpoint-url and at what the store is."),
        (FileNotFoundError(2, "No such file", "/x"), "[Errno 2] No such file: '/x'"),
        (KeyError("x"), "unexpected KeyError: 'x' (with --debug there is a traceback)"),
        (AssertionError(), "unexpected AssertionError: no message (with --debug there is a traceback)"),
    ],
)
def test_one_sentence(error, said):
    assert sentence(error) == said


def test_a_key_inside_a_longer_word_is_not_the_mend():
    assert mend(Unavailable("the cache-size-limit and co-owner"))
    assert mend(Unavailable("see cache-size.")) == ""


@pytest.mark.parametrize(
    "size, text",
    [(1023, "1023 bytes"), (1024, "1.0 KB"), (1536, "1.5 KB"), (5 << 30, "5.0 GB"), (1 << 50, "1.0 PB")],
)
def test_sizes_count_by_1024(size, text):
    assert byte_count(size) == text
