"""The control socket: searches of this user's processes, listed, watched and steered from another terminal."""
