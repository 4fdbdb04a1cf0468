"""Does other Python code run while a call is under way?"""

import sys
import threading
import time


def progress_during(work, tries):
    """True as soon as another thread counts on during one of `tries` calls of `work`. Python takes the GIL from nobody
    meanwhile: a call that keeps it lets nothing through, however long it takes."""
    count, stop = [0], threading.Event()

    def keep_counting():
        while not stop.is_set():
            count[0] += 1
            time.sleep(0)  # gives the GIL away

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    other = threading.Thread(target=keep_counting)
    other.start()
    try:
        for _ in range(tries):
            before = count[0]
            work()
            if count[0] != before:
                return True
        return False
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        other.join()
