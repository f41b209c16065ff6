"""The dialects that clients speak, one module each: what a request says, and how replies and streams are written."""
