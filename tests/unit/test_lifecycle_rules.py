"""Lifecycle rules: ours beside those of others, whatever these are, and what is told of theirs."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.maintenance.lifecycle import (
    CLASSES,
    KINDS,
    LONGEST_ID,
    MOST_RULES,
    SHARED,
    UNFINISHED,
    VERSIONS,
    Wishes,
    dangers,
    difference,
    does_the_same,
    others,
    ours,
    rule_id,
)

THEIRS = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}
ALL = Wishes(7, 30, (("GLACIER_IR", 90), ("STANDARD_IA", 30)))


def test_what_is_written():
    found = difference([THEIRS], "plone", ALL)
    assert found.present == (THEIRS,) and found.is_needed
    theirs, unfinished, versions, classes = found.wanted
    assert theirs == THEIRS
    assert unfinished == {
        "ID": "collective.s3blobstorage: unfinished uploads of plone",
        "Status": "Enabled",
        "Filter": {"Prefix": "plone/"},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }
    assert versions["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert versions["Filter"] == {"Prefix": "plone/"} and versions["Expiration"] == {"ExpiredObjectDeleteMarker": True}
    assert classes["Filter"] == {"Prefix": "plone/blobs/"}
    assert classes["Transitions"] == [
        {"Days": 30, "StorageClass": "STANDARD_IA"},
        {"Days": 90, "StorageClass": "GLACIER_IR"},
    ]
    assert not difference(found.wanted, "plone", ALL).is_needed
    assert [rule["Filter"]["Prefix"] for rule in difference([], "", ALL).wanted] == ["", "", "blobs/"]


def test_shared_objects_go_through_the_same_classes():
    sharing = dataclasses.replace(ALL, shared=True)
    found = difference([THEIRS], "plone", sharing)
    *_, classes, shared = found.wanted
    assert shared["Filter"] == {"Prefix": "plone/objects/"} and shared["Transitions"] == classes["Transitions"]
    assert not difference(found.wanted, "plone", sharing).is_needed
    assert found.wanted == difference(difference([THEIRS], "plone", ALL).wanted, "plone", sharing).wanted
    assert difference(found.wanted, "plone", Wishes(noncurrent=60)).wanted[-1] == shared
    gone = difference(found.wanted, "plone", Wishes(remove=frozenset({CLASSES, SHARED}), shared=True)).wanted
    assert set(ours(gone, "plone")) == {UNFINISHED, VERSIONS}


def test_only_what_is_named_changes():
    there = difference([THEIRS], "plone", ALL).wanted
    changed = difference(there, "plone", Wishes(noncurrent=60)).wanted
    assert [ours(changed, "plone")[kind] for kind in (UNFINISHED, CLASSES)] == [
        ours(there, "plone")[kind] for kind in (UNFINISHED, CLASSES)
    ]
    assert ours(changed, "plone")[VERSIONS]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 60}
    gone = difference(there, "plone", Wishes(remove=frozenset({VERSIONS, CLASSES}))).wanted
    assert set(ours(gone, "plone")) == {UNFINISHED}
    assert not difference(there, "plone", Wishes()).is_needed


def test_another_prefix_is_others():
    there = difference([], "plone", ALL).wanted
    both = difference(there, "staging", ALL)
    assert both.wanted[: len(there)] == there and len(both.wanted) == 2 * len(there)
    assert difference(both.wanted, "staging", Wishes(remove=frozenset(KINDS))).wanted == there


def test_the_form_before_2016_is_the_same_rule():
    new = difference([], "plone", Wishes(7)).wanted[0]
    old = {name: value for name, value in new.items() if name != "Filter"} | {"Prefix": "plone/"}
    assert does_the_same(old, new)
    assert not difference([old], "plone", Wishes(7)).is_needed
    assert difference([old], "plone", Wishes(8)).is_needed
    small = dict(new, Filter={"And": {"Prefix": "plone/", "ObjectSizeLessThan": 5}})
    assert not does_the_same(small, new)


def test_no_room():
    full = [dict(THEIRS, ID=str(number)) for number in range(MOST_RULES)]
    with pytest.raises(ConfigurationError, match="can have 1000: remove one"):
        difference(full, "", Wishes(7))
    assert not difference(full, "", Wishes()).is_needed


RULES = st.fixed_dictionaries(
    {"Status": st.sampled_from(["Enabled", "Disabled"]), "Filter": st.fixed_dictionaries({"Prefix": st.text()})},
    optional={
        "ID": st.sampled_from([rule_id(kind, prefix) for kind in KINDS for prefix in ("", "a", "b")]) | st.text(),
        "Expiration": st.fixed_dictionaries({"Days": st.integers(1, 9)}),
        "AbortIncompleteMultipartUpload": st.fixed_dictionaries({"DaysAfterInitiation": st.integers(1, 9)}),
    },
)
WISHES = st.builds(
    Wishes,
    st.none() | st.integers(1, 9),
    st.none() | st.integers(1, 9),
    st.lists(st.tuples(st.sampled_from(["STANDARD_IA", "GLACIER_IR"]), st.integers(30, 90)), max_size=2).map(tuple),
    st.frozensets(st.sampled_from(KINDS)),
)


@given(st.lists(RULES, max_size=5, unique_by=lambda rule: rule.get("ID", id(rule))), st.sampled_from(["", "a"]), WISHES)
def test_others_stay_and_a_second_run_has_nothing_to_do(present, prefix, wishes):
    before = copy.deepcopy(present)
    found = difference(present, prefix, wishes)
    assert present == before
    assert others(found.wanted, prefix) == others(present, prefix)
    assert not difference(found.wanted, prefix, wishes).is_needed
    assert not set(ours(found.wanted, prefix)) & wishes.remove


def rule(where="", **does):
    return {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": where}, **does}


IN_DAYS, TO_ARCHIVE = {"Expiration": {"Days": 9}}, {"Transitions": [{"Days": 9, "StorageClass": "DEEP_ARCHIVE"}]}


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (rule(**IN_DAYS), "the rule 'a' deletes blobs or what belongs to them (everything) after 9 days"),
        (rule("plone/", Expiration={"Days": 1}), "(plone/) after 1 day"),
        (rule("plone/blobs/00", **IN_DAYS), "(plone/blobs/00) after 9 days"),
        (rule("plone/keys/", **IN_DAYS), "(plone/keys/) after 9 days"),
        (rule("plone/objects/", **IN_DAYS), "(plone/objects/) after 9 days"),
        (rule("plone/condemned/", **IN_DAYS), "(plone/condemned/) after 9 days"),
        (rule("pl", Expiration={"Date": "2027-01-01"}), "on 2027-01-01"),
        (rule("plone/", **TO_ARCHIVE), "moves blobs (plone/) to DEEP_ARCHIVE, where they cannot be read"),
        ({**rule(**TO_ARCHIVE), "Filter": {"And": {"Prefix": "plone", "ObjectSizeGreaterThan": 9}}}, "DEEP_ARCHIVE"),
        ({"Status": "Enabled", "Prefix": "", **IN_DAYS}, "a rule without a name deletes blobs"),
        (rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1}), "after 1 day, before a browser must be done"),
        (rule("other/", **IN_DAYS), None),
        (rule("plonesite/", **IN_DAYS), None),
        (rule("plone/uploads/", **IN_DAYS), None),
        (rule("plone/jobs/", **IN_DAYS), None),
        (rule(Expiration={"ExpiredObjectDeleteMarker": True}), None),
        (rule(NoncurrentVersionExpiration={"NoncurrentDays": 1}), None),
        (rule(Transitions=[{"Days": 30, "StorageClass": "STANDARD_IA"}]), None),
        ({**rule(**IN_DAYS), "Status": "Disabled"}, None),
        ({**rule(**IN_DAYS), "Filter": {"Tag": {"Key": "k", "Value": "v"}}}, None),
        ({**rule(**IN_DAYS), "Filter": {"And": {"Prefix": "", "Tags": [{"Key": "k", "Value": "v"}]}}}, None),
        (rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 2}), None),
    ],
)
def test_what_harms_blobs(theirs, says):
    told = list(dangers([theirs], "plone", 1.5))
    assert (not told) if says is None else (len(told) == 1 and says in told[0])
    assert not list(dangers(difference([], "plone", ALL).wanted, "plone", 1.5))


def test_long_prefixes_that_begin_alike_have_rules_of_their_own():
    one, other = "a" * 300 + "/one", "a" * 300 + "/other"
    ids = [rule_id(kind, prefix) for kind in KINDS for prefix in (one, other)]
    assert len(set(ids)) == 2 * len(KINDS) and all(len(id) <= LONGEST_ID for id in ids)
    rules = difference([], one, Wishes(7)).wanted
    assert len(difference(rules, other, Wishes(9)).wanted) == 2
