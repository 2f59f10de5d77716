"""Makes a bucket or container on an emulator: container.py s3|azure ENDPOINT NAME."""

import base64
import email.utils
import hashlib
import hmac
import sys
import urllib.parse
import urllib.request

# Account and key that azurite documents for everybody.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "2021-08-06"


def azure(endpoint, name):
    """A request signed as "Authorize with Shared Key" of the Blob service's manual says."""
    path = urllib.parse.urlsplit(endpoint).path + "/" + name
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": VERSION}
    canonical = "".join(f"{key}:{headers[key]}\n" for key in sorted(headers))
    # Twelve standard headers, none of which is sent, follow the method.
    text = f"PUT{chr(10) * 12}{canonical}/{ACCOUNT}{path}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    return urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT", headers=headers)


def s3(endpoint, name):
    """Moto asks for no signature."""
    return urllib.request.Request(f"{endpoint}/{name}", method="PUT")


kind, endpoint, name = sys.argv[1:]
urllib.request.urlopen({"s3": s3, "azure": azure}[kind](endpoint, name), timeout=30).read()
