"""The process of the engine, which does nothing but search: what it is told, what it says, how it starts and ends.

Requests and connections are in another process, so that the two do not share an interpreter.
"""
