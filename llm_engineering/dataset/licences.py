"""Licences as the Hugging Face Hub names them: https://huggingface.co/docs/hub/repositories-licenses."""

import re

_CREATIVE_COMMONS = (
    "by-2.0 by-2.5 by-3.0 by-4.0 by-sa-3.0 by-sa-4.0 by-nc-2.0 by-nc-3.0 by-nc-4.0 by-nd-4.0 by-nc-nd-3.0 \
by-nc-nd-4.0 by-nc-sa-2.0 by-nc-sa-3.0 by-nc-sa-4.0"
)
_OTHERS = (
    "afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc0-1.0 \
cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gfdl gpl gpl-2.0 gpl-3.0 \
isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail osl-3.0 pddl postgresql \
unknown unlicense wtfpl zlib"
)

KNOWN = frozenset(_OTHERS.split()) | {f"cc-{terms}" for terms in _CREATIVE_COMMONS.split()}
"""Identifiers that the Hub knows; it refuses a card with another one."""


def front_matter(licence: str) -> dict[str, str]:
    """What a card says of a licence: its identifier, or ``other`` with a name where the Hub has none for it."""
    identifier = licence.strip().lower()
    if identifier in KNOWN:
        return {"license": identifier}
    name = re.sub(r"[^a-z0-9.]+", "-", identifier).strip("-.")
    return {"license": "other", "license_name": name or "own-terms"}
