"""Pages as signalbackup-tools makes them, written by tests."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["attached", "message", "page", "reacted"]


def page(*messages: str, title: str = "Ann", group: bool = False) -> bytes:
    members = '<input type="checkbox" id="showmembers"><label for="showmembers">x</label>' if group else ""
    return f"""<!-- Generated on 2024-01-02 03:04:05 by signalbackup-tools (20240102.1). Input x. -->
<!DOCTYPE html>
<html>
  <head>
    <meta charset="utf-8">
    <title>{escape(title)}</title>
    <style>
      .msg-incoming {{ align-self: flex-start; }} a > b {{ }}
    </style>
  </head>
  <body>
  <div id="page">
    <div id="thread-title"><pre class="threadtitle">{escape(title)}</pre></div>
    <div id="thread-subtitle">{members}</div>
    <div class="conversation-box">
          <div class="msg msg-date-change">
            <p>
              Jan 02, 2024
            </p>
          </div>
{"".join(messages)}
    </div>
  </div>
  </body>
</html>
""".encode()


def message(
    text: str = "",
    *,
    kind: str = "incoming",
    name: str = "",
    time: str = "Jan 02, 2024 15:04:05",
    before: str = "",
    reactions: Sequence[str] = (),
    versions: Sequence[str] = (),
    css: str = "",
) -> str:
    """One message; `before` stands before its text."""
    named = f'<span class="msg-name msg-name-7">{escape(name)}</span>' if name else ""
    status = ' class="status-text"' if kind == "status" else ""
    body = f"<div{status}>\n<pre>{text}</pre>\n</div>" if text else ""
    history = f'<div class="history-header">Edit history</div>{"<hr>".join(versions)}'
    edited = f'<div class="edited"><span>edited</span><div class="edited-info">{history}</div></div>'
    inside = f"""
  {named}{before}{body}
  <div class="footer">{edited if versions else ""}
    <span class="msg-data">{time}</span>
    <div class="footer-icons checkmarks-read"><div class="msg-receipt-info">Ann read it</div></div>
  </div>
  {f'<div class="msg-reactions">{"".join(reactions)}</div>' if reactions else ""}
"""
    shown = f'<!-- Message: _id:1,type:20 --><div class="msg msg-{kind} {css}">{inside}</div>\n'
    avatar = '<div class="incoming-group-msg"><div class="avatar convo-avatar"><span>A</span></div>'
    return f"{avatar}{shown}</div>" if name else shown


def reacted(emoji: str, *names: str) -> str:
    sent = "<br>Sent: 2024-01-02 15:05:00<br>Received: 2024-01-02 15:05:01"
    info = "<hr>".join(f"From: {name}{sent}" for name in names)
    count = f'<span class="reaction-count">{len(names)}</span>' if len(names) > 1 else ""
    return (
        f'<div class="msg-reaction"><span class="msg-emoji">{emoji}</span>{count}'
        f'<div class="msg-reaction-info">{info}</div></div>'
    )


def attached(path: str, name: str = "") -> str:
    if name:
        link = f'<span class="msg-dl-link"><a href="{path}" type="x/y">&#129055;</a></span>'
        return (
            f"<div class=\"attachment attachment-unknown-type\">\n  Attachment '{escape(name)}'{link}\n</div>"
        )
    return f'<div class="attachment"><div class="msg-img-container"><img src="{path}"></div></div>'
