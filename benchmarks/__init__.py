"""Every number of the documents has its command here.

A benchmark builds stores of its own: the addresses of a person's stores are forgotten before one starts.
"""

import os

from llm_engineering.settings import ENV_FILE

for _name in list(os.environ):
    if _name.upper().startswith(("WAREHOUSE_", "INDEX_")):
        del os.environ[_name]
os.environ[ENV_FILE] = ""
