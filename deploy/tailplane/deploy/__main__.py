"""`python -m tailplane.deploy` is the command `tailplane`; the local cluster starts its processes this way."""

from tailplane.deploy.cli import main

main()
