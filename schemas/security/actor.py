"""Identity of the person behind an action, as recorded in the promotion history.

`os:USER@HOST`: user of a command line, by the user id of the process. `web:USER`: user signed in on the dashboard.
`web:anonymous`: user of a dashboard on loopback that requires no sign-in.
"""

import os
import pwd
import re
import socket

ANONYMOUS = "web:anonymous"
MAX_LENGTH = 200  # characters
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


def os_actor() -> str:
    """User of this process, and host name, as `os:USER@HOST`.

    Uses the kernel's user id, because a caller can set `LOGNAME` and `USER`, which `getpass` reads first.
    """
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container may run under a user id without a name
        name = str(uid)
    return f"os:{_plain(name)}@{_plain(socket.gethostname())}"[:MAX_LENGTH]


def web_actor(user: str) -> str:
    """User of the dashboard, by the name in the users file.

    >>> web_actor("ana")
    'web:ana'
    """
    return f"web:{user}"


def _plain(text: str) -> str:
    return _ODD.sub("_", text) or "_"
