import os

import pytest

from ray_darts.orchestration import interfaces


def test_gloo_is_left_alone_where_the_name_resolves_well() -> None:
    assert interfaces.interface_for("127.0.0.1", "127.0.0.1") is None


@pytest.mark.parametrize("host_address", ["127.0.1.1", "192.0.2.250", None])
def test_the_interface_of_the_nodes_address_is_named_where_it_does_not(host_address: str | None) -> None:
    assert interfaces.interface_for("127.0.0.1", host_address) == "lo"


def test_no_interface_is_named_for_an_address_that_is_not_here() -> None:
    assert interfaces.interface_for("192.0.2.250", "127.0.1.1") is None


def test_a_choice_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    interfaces.choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"


def test_a_name_that_nobody_knows_has_no_address() -> None:
    assert interfaces.resolved("no-such-host.invalid") is None
