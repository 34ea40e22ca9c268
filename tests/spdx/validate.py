"""Validates an SPDX document twice: by the SPDX project's own validator and by its JSON schema.

Usage: validate.py FILE.spdx.json. Says what is wrong and exits 1, or says how much it has seen.

Python and most of what the validator needs are Debian packages (the tools tree `sbom`). Debian does not have the
validator, and its list of licences is older than larder's: these two are wheels beside this file, as the Python Package
Index has them, both under Apache-2.0. The schema is the SPDX project's for version 2.3.
"""

import hashlib
import json
import pathlib
import sys
import tempfile
import zipfile

import jsonschema

HERE = pathlib.Path(__file__).parent
SCHEMA = HERE / "spdx-2.3.schema.json"
WHEELS = {
    "license_expression-30.4.4-py3-none-any.whl": "421788fdcadb41f049d2dc934ce666626265aeccefddd25e162a26f23bcbf8a4",
    "spdx_tools-0.8.5-py3-none-any.whl": "7c2d5865941be9d2e898f5b084e8d5422dd298dc5a29320ddb198fec304f59c4",
}
# A broken document has the same problem many times.
SHOWN = 20


def validator(folder):
    """The validator, imported from its wheels. They lie unpacked, as a part of it is a namespace package."""
    for name, expected in WHEELS.items():
        wheel = HERE / name
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if digest != expected:
            sys.exit(f"{name} has sha256 {digest}, not {expected}")
        zipfile.ZipFile(wheel).extractall(folder)
    sys.path.insert(0, folder)
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    return lambda path: validate_full_spdx_document(parse_file(path), "SPDX-2.3")


def main(path):
    document = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    problems = [f"schema: {error.json_path}: {error.message}"
                for error in jsonschema.Draft201909Validator(schema).iter_errors(document)]
    with tempfile.TemporaryDirectory() as folder:
        problems += [f"validator: {message.context.spdx_id}: {message.validation_message}"
                     for message in validator(folder)(path)]
    if problems:
        shown = [problem[:500] for problem in problems[:SHOWN]]
        sys.exit("\n".join([f"{len(problems)} problems", *shown]))
    counts = [f"{len(document[what])} {what}" for what in ("packages", "relationships", "hasExtractedLicensingInfos")]
    print("valid: " + ", ".join(counts))


main(sys.argv[1])
