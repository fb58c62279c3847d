"""Metrics name so many tenants, and no more."""

from tailplane.broker.tenant_labels import REST, TenantLabels


def test_those_that_come_first_are_named() -> None:
    labels = TenantLabels(2)
    assert [labels[name] for name in ("a", "b", "c", "default", "a", "d")] == ["a", "b", REST, "default", "a", REST]


def test_none_but_the_default_one_may_be_named() -> None:
    labels = TenantLabels(0)
    assert [labels[name] for name in ("a", "default")] == [REST, "default"]
