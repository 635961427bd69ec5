"""Memory: the store of keys and values, the policies that decide what it holds, and the library of finished scenes."""
