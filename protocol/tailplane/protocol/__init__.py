"""What all parts of Tailplane agree on: task states, events, ids, cursors, codecs and errors. No I/O."""
