"""What the adapters of other people's systems share, and the programs that they start as servers."""
