"""Texts that a node could send to harm who reads a page, and numbers that are none."""

EVIL = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\"' onmouseover=alert(3) x='",
    "]]></style></script><svg onload=alert(4)>",
    "javascript:alert(5)",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\u2066\x00\x1b[2J\u2028",
    "<!--",
    "&lt;b&gt;",
    "\ud800",
)
