"""The control plane: takes tasks over HTTP, streams what they say, minds the fleet. Stateless: run any number."""

from tailplane.control_plane.app import create_app
from tailplane.control_plane.server import serve
from tailplane.control_plane.settings import Settings

__all__ = ["Settings", "create_app", "serve"]
