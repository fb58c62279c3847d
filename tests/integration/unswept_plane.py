"""A control plane that hears of a stream's growth by its bells alone: no sweep makes up for one that is lost.

Its settings are the environment's.
"""

from tailplane.broker.logs import configure_logging
from tailplane.control_plane import Settings, create_app, hub
from tailplane.control_plane.server import Server

if __name__ == "__main__":
    hub.SWEEP_STEP = 24 * 3600.0
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    Server(create_app(settings), settings).run()
