from dataclasses import fields

from logos_pl.artifacts.jacobian_format import JacobianOrigin
from logos_pl.artifacts.provenance_schema import Environment
from logos_pl.artifacts.tuned_lens_format import ImportedOrigin
from logos_pl.kinds.jacobian import FittedJacobianOrigin
from logos_pl.kinds.prism import PrismOrigin
from logos_pl.kinds.registry import compared
from logos_pl.kinds.tuned import TunedLensOrigin
from logos_pl.sweeps import document_schema
from logos_pl.sweeps.document_schema import Files, ModelIdentity, ModelStats, Output
from tests.sweeps.documents import SCHEMA


def test_the_schema_names_the_fields_of_the_code() -> None:
    properties = SCHEMA["properties"]
    groups = {
        Output: SCHEMA,
        ModelIdentity: properties["model"],
        document_schema.Run: properties["run"],
        Files: properties["run"]["properties"]["files"],
        Environment: properties["run"]["properties"]["environment"]["anyOf"][0],
        ModelStats: properties["model_stats"]["anyOf"][0],
        TunedLensOrigin: properties["tuned_lens"]["anyOf"][0]["properties"]["provenance"],
        FittedJacobianOrigin: properties["jacobian_lens"]["anyOf"][0]["properties"]["origin"],
        PrismOrigin: properties["prism_summary"]["anyOf"][0]["properties"]["provenance"],
    }
    for group, schema in groups.items():
        wanted = [field.name for field in fields(group) if field.name != "lens_sections"]
        wanted += [kind.section.key for kind in compared()] if group is Output else []
        assert wanted == list(schema["properties"])
        left_out = {"loaded_as"}  # of plain weights
        assert [name for name in wanted if name not in left_out] == schema["required"]
    origins = properties["imported_lens"]["anyOf"][0]["properties"]["origin"]["anyOf"]
    named = (ImportedOrigin._fields, JacobianOrigin._fields)
    for names, imported in zip(named, origins, strict=True):
        assert list(names) == list(imported["properties"]) == imported["required"]
