"""Overrides of policies: the most specific wins, and no two contradict each other."""

from __future__ import annotations

import msgspec
import pytest

from whimbrel_core.bundle.manifest import DriftPolicy
from whimbrel_core.errors import ConfigError
from whimbrel_server.domain.policies import VALUES, Override, Policies

BUNDLE = DriftPolicy(window_s=300, min_rows=100, warn_psi=0.1, severe_psi=0.25)


def made(**values: object) -> Override:
    return msgspec.convert(values, Override)


def test_without_an_override_the_bundle_and_the_servers_own_defaults_hold() -> None:
    followed = Policies(confirm=4, calm=5, max_quality_drop=0.01).follow("flights", BUNDLE)
    assert followed.declared == BUNDLE
    assert (followed.confirm_windows, followed.calm_windows, followed.max_quality_drop) == (
        4,
        5,
        0.01,
    )
    assert followed.name == "bundle"


def test_each_value_comes_from_the_most_specific_override_that_sets_it() -> None:
    policies = Policies(
        (
            Override(warn_psi=0.11, min_rows=10, warmup_windows=7),
            Override(model="flights", warn_psi=0.12, min_rows=20),
            Override(cohort="site=ewr", warn_psi=0.13),
            Override(model="flights", cohort="site=ewr,class=arm", confirm_windows=9),
        )
    )
    plain = policies.follow("flights", BUNDLE, ["site=jfk"])
    assert (plain.declared.warn_psi, plain.declared.min_rows) == (0.12, 20)
    ewr = policies.follow("flights", BUNDLE, ["site=ewr"])
    assert (ewr.declared.warn_psi, ewr.declared.min_rows, ewr.declared.warmup_windows) == (
        0.13,
        20,
        7,
    )
    assert ewr.name == "bundle, overridden for every model in site=ewr; flights; every model"
    both = policies.follow("flights", BUNDLE, ["site=ewr", "class=arm"])
    assert (both.confirm_windows, both.declared.warn_psi) == (9, 0.13)
    other = policies.follow("churn", BUNDLE, [])
    assert (other.declared.warn_psi, other.declared.min_rows) == (0.11, 10)


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ({"cohort": "site=ewr"}, {"cohort": "class=arm"}, "every model in site=ewr and"),
        ({"model": "flights"}, {"model": "flights"}, "the overrides of flights contradict"),
        ({}, {}, "the overrides of every model contradict"),
    ],
)
def test_two_of_one_rank_that_a_device_could_both_match_are_refused(
    one: dict[str, str], other: dict[str, str], what: str
) -> None:
    with pytest.raises(ConfigError, match=r"warn_psi = 0\.2 and 0\.3") as refused:
        Policies([made(warn_psi=0.2, **one), made(warn_psi=0.3, **other)])
    assert what in refused.value.message


def test_no_device_has_two_values_of_one_label_so_those_do_not_contradict_each_other() -> None:
    policies = Policies(
        (Override(cohort="site=ewr", warn_psi=0.2), Override(cohort="site=jfk", warn_psi=0.3))
    )
    assert policies.follow("flights", BUNDLE, ["site=jfk"]).declared.warn_psi == 0.3


def test_a_contradiction_may_be_settled_for_those_who_match_both() -> None:
    policies = Policies(
        (
            Override(cohort="site=ewr", warn_psi=0.2),
            Override(cohort="class=arm", warn_psi=0.3),
            Override(cohort="site=ewr,class=arm", warn_psi=0.15),
        )
    )
    assert policies.follow("m", BUNDLE, ["site=ewr", "class=arm"]).declared.warn_psi == 0.15


def test_a_warning_above_the_bundles_severe_takes_severe_along() -> None:
    followed = Policies((Override(warn_psi=0.4),)).follow("m", BUNDLE)
    assert (followed.declared.warn_psi, followed.declared.severe_psi) == (0.4, 0.4)
    followed = Policies((Override(severe_psi=0.05),)).follow("m", BUNDLE)
    assert (followed.declared.warn_psi, followed.declared.severe_psi) == (0.05, 0.05)


@pytest.mark.parametrize(
    ("override", "what"),
    [
        (Override(model="m"), "sets nothing"),
        (Override(cohort="ewr", min_rows=5), "names the cohort 'ewr'"),
        (Override(cohort="site=ewr,site=jfk", min_rows=5), "two values of one label"),
        (Override(cohort="a=b,c=d", max_quality_drop=0.1), "for devices with several labels"),
        (Override(min_rows=0), "min_rows = 0, it must be 1 at least"),
        (Override(warmup_windows=1), "2 at least"),
        (Override(arl_days=0), "above zero"),
        (Override(warn_psi=0.3, severe_psi=0.2), "above severe_psi"),
    ],
)
def test_an_override_without_a_meaning_is_refused(override: Override, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Policies((override,))


def test_a_limit_of_quality_may_be_a_cohorts_own() -> None:
    policies = Policies(
        (
            Override(model="flights", cohort="site=ewr", max_quality_drop=0.1),
            Override(cohort="site=jfk", warn_psi=0.2),
        )
    )
    assert policies.quality_cohorts("flights") == ("site=ewr",)
    assert policies.quality_cohorts("churn") == ()
    assert policies.follow("flights", BUNDLE, ["site=ewr"]).max_quality_drop == 0.1


def test_the_fingerprint_tells_apart_what_states_depend_on_and_nothing_else() -> None:
    usual = Policies().follow("m", BUNDLE)
    for name in VALUES:
        value = 9 if name.endswith(("rows", "windows")) else 0.5
        changed = Policies([made(**{name: value})]).follow("m", BUNDLE)
        if name == "max_quality_drop":
            assert changed.fingerprint == usual.fingerprint
        else:
            assert changed.fingerprint != usual.fingerprint, name
    assert msgspec.structs.replace(usual, name="other").fingerprint == usual.fingerprint
