"""What the engine says is sent once, whichever threads say it."""

import socket
import sys
import threading

from agent.interface.server.engine.protocol import Unpacker
from agent.interface.server.engine.searcher import Outbox


def test_no_message_is_lost_between_threads() -> None:
    ours, theirs = socket.socketpair()
    outbox, over = Outbox(theirs), threading.Event()

    def say(who: int) -> None:
        for number in range(3000):
            outbox.later({"who": who, "number": number})

    def send() -> None:
        while not over.is_set():
            outbox.flush()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=say, args=(who,)) for who in range(4)]
        sending = threading.Thread(target=send)
        found: list[tuple[int, int]] = []

        def read() -> None:
            unpacker = Unpacker()
            while data := ours.recv(1 << 16):
                found.extend((message["who"], message["number"]) for message in unpacker.feed(data))

        reading = threading.Thread(target=read)
        for each in (*threads, sending, reading):
            each.start()
        for each in threads:
            each.join()
        over.set()
        sending.join()
        outbox.flush()
        theirs.close()
        reading.join(20)
    finally:
        sys.setswitchinterval(interval)
        ours.close()
    for who in range(4):
        assert [number for teller, number in found if teller == who] == list(range(3000))
