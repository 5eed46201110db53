"""Who did something, as every history entry names them.

`os:USER@HOST`: somebody at a command line, by the process' user id. `web:USER`: somebody signed in on the live page.
`web:anonymous`: somebody on a page on loopback that asks nobody who they are.
"""

import os
import pwd
import re
import socket

ANONYMOUS = "web:anonymous"
MAX_LENGTH = 200  # characters
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


def os_actor() -> str:
    """The user of this process and this host.

    By the kernel's user id: `LOGNAME` and `USER`, which `getpass` reads first, are whatever a caller writes into them.
    """
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's user without a name
        name = str(uid)
    return f"os:{_plain(name)}@{_plain(socket.gethostname())}"[:MAX_LENGTH]


def web_actor(user: str) -> str:
    """A user of the live page, by the name in the users file.

    >>> web_actor("ana")
    'web:ana'
    """
    return f"web:{user}"


def _plain(text: str) -> str:
    return _ODD.sub("_", text) or "_"
