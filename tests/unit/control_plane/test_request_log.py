"""What a line of the log says of the request that it belongs to."""

from types import SimpleNamespace

from tailplane.control_plane.request_log import REQUEST, add_request


def test_outside_of_a_request_a_line_stays_as_it_is() -> None:
    assert add_request(None, "info", {"event": "hello"}) == {"event": "hello"}


def test_a_line_names_the_route_and_not_the_path() -> None:
    scope = {
        "method": "POST",
        "path": "/v1/tasks/t_1/cancel",
        "route": SimpleNamespace(path="/v1/tasks/{task_id}/cancel"),
        "path_params": {"task_id": "t_1"},
    }
    token = REQUEST.set(scope)
    try:
        line = add_request(None, "info", {"event": "hello"})
        own = add_request(None, "info", {"event": "hello", "task_id": "t_2"})
    finally:
        REQUEST.reset(token)

    assert line == {"event": "hello", "method": "POST", "route": "/v1/tasks/{task_id}/cancel", "task_id": "t_1"}
    assert own["task_id"] == "t_2"


def test_a_request_without_a_route_has_its_method_alone() -> None:
    token = REQUEST.set({"method": "GET", "path": "/nowhere"})
    try:
        assert add_request(None, "info", {"event": "hello"}) == {"event": "hello", "method": "GET"}
    finally:
        REQUEST.reset(token)
