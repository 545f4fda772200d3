"""The Bicep files fit together, give no more than is needed, and say what the rest of the project expects of them.

What only Azure can tell, whether it takes them, isn't tested anywhere.
"""

import importlib.util
import inspect
import json
import re
from pathlib import Path

import pytest
import yaml
from bicep import Block, Template, expressions, read, read_values, text

from sparsight.cloud.workspace import STORES, find_workspace
from sparsight.data.loading import BLOB_CONTAINER
from sparsight.stores.metadata import FILTER_BODY, FILTER_NAME, MetadataStore

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
FILES = sorted(INFRA.rglob("*.bicep"))
ROLES = json.loads((INFRA / "roles.json").read_text())
ASSIGNMENT = "Microsoft.Authorization/roleAssignments"
DATA_ASSIGNMENT = "Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments"
COMPUTE = "Microsoft.MachineLearningServices/workspaces/computes"
NAMED_ROLE = re.compile(r"subscription_resource_id\(definitions, roles(?:\.(\w+)|\[([^\]]+)\])\)")
SECRET = re.compile(
    r"list_?\w*keys|list_?\w*secrets|list_?\w*sas|get_?secret|\.key\d?\b|connectionstring|instrumentationkey|password",
    re.I,
)


def main() -> Template:
    return read(INFRA / "main.bicep")


def module(name: str) -> Template:
    return read(INFRA / "modules" / f"{name}.bicep")


def made(kind: str) -> list[tuple[Template, Block]]:
    """Every resource of a type, with the file that makes it."""
    return [(each, resource) for each in map(read, FILES) for resource in each.of_type(kind)]


def only(kind: str) -> Block:
    [(_, resource)] = made(kind)
    return resource


def role(assignment: Block) -> str:
    named = NAMED_ROLE.fullmatch(text(assignment.body["properties"]["roleDefinitionId"]))
    assert named, assignment.symbol
    return named[1] or named[2]


def granted(name: str) -> set[tuple[str, str]]:
    """What a module of roles gives: type of the scope's resource, role."""
    template = module(name)
    return {(template.resources[each.body["scope"]].kind, role(each)) for each in template.of_type(ASSIGNMENT)}


def calls() -> list[pytest.param]:
    return [
        pytest.param(template, each, id=f"{template.path.stem}.{each.symbol}")
        for template in map(read, FILES)
        for each in template.modules.values()
    ]


def assignments() -> list[pytest.param]:
    return [pytest.param(*each, id=f"{each[0].path.stem}.{each[1].symbol}") for each in made(ASSIGNMENT)]


def test_there_is_something_to_check():
    assert len(FILES) > 10
    assert len(made(ASSIGNMENT)) > 10
    assert len(made(DATA_ASSIGNMENT)) == 2


@pytest.mark.parametrize(("template", "call"), calls())
def test_a_module_is_given_what_it_takes(template, call):
    assert template.file_of(call).is_file()
    called, given = read(template.file_of(call)), set(call.body["params"])
    assert given <= set(called.parameters), "it takes no such parameter"
    assert called.required <= given, "it needs these, too"
    for name in given:
        value = call.body["params"][name]
        if called.allowed(name) and isinstance(value, str) and value in ROLES:
            assert value in called.allowed(name)


def test_every_module_is_used():
    used = {template.file_of(each) for template in map(read, FILES) for each in template.modules.values()}
    assert used == set(FILES) - {INFRA / "main.bicep"}


@pytest.mark.parametrize("file", FILES, ids=lambda each: each.stem)
def test_outputs_asked_of_a_module_are_there(file):
    template = read(file)
    bodies = [each.body for each in (*template.modules.values(), *template.resources.values())]
    told = {found for value in (*bodies, template.outputs) for found in expressions(value)}
    for symbol, name in {tuple(each.split(".outputs.")) for each in told if re.fullmatch(r"\w+\.outputs\.\w+", each)}:
        assert name in read(template.file_of(template.modules[symbol])).outputs, f"{symbol}.outputs.{name}"


@pytest.mark.parametrize("file", FILES, ids=lambda each: each.stem)
def test_every_parameter_and_variable_is_used(file):
    content = re.sub(r"//.*", "", file.read_text())
    for name in (*read(file).parameters, *read(file).variables):
        assert len(re.findall(rf"\b{name}\b", content)) > 1, name


@pytest.mark.parametrize("file", FILES, ids=lambda each: each.stem)
def test_no_secret_is_read_or_put_out(file):
    content = re.sub(r"//.*|@description\(.*\)", "", file.read_text())
    assert not SECRET.search(content)


@pytest.mark.parametrize("leak", ["listKeys(a)", "a.listKeys().keys[0].value", "kv.getSecret('x')", "a.key1"])
def test_a_secret_would_be_noticed(leak):
    assert SECRET.search(leak)


def test_no_store_takes_a_key_or_tells_the_public():
    storage = only("Microsoft.Storage/storageAccounts").body["properties"]
    assert storage["allowSharedKeyAccess"] is False
    assert storage["allowBlobPublicAccess"] is False
    assert storage["minimumTlsVersion"] == "TLS1_2"
    assert only("Microsoft.Storage/storageAccounts/blobServices/containers").body["properties"] == {
        "publicAccess": "None"
    }
    assert only("Microsoft.DocumentDB/databaseAccounts").body["properties"]["disableLocalAuth"] is True
    registry = only("Microsoft.ContainerRegistry/registries").body["properties"]
    assert (registry["adminUserEnabled"], registry["anonymousPullEnabled"]) == (False, False)
    assert only("Microsoft.KeyVault/vaults").body["properties"]["enableRbacAuthorization"] is True
    workspace = only("Microsoft.MachineLearningServices/workspaces").body["properties"]
    assert workspace["systemDatastoresAuthMode"] == "Identity"


def test_what_is_deleted_can_be_brought_back():
    blobs = only("Microsoft.Storage/storageAccounts/blobServices").body["properties"]
    assert blobs["isVersioningEnabled"] is True
    assert blobs["deleteRetentionPolicy"] == {"enabled": True, "days": "retentionDays"}
    assert only("Microsoft.KeyVault/vaults").body["properties"]["enablePurgeProtection"] is True
    assert only("Microsoft.DocumentDB/databaseAccounts").body["properties"]["backupPolicy"]["type"] == "Continuous"


def test_clusters_cost_nothing_without_work_and_let_nobody_in():
    cluster = only(COMPUTE).body
    assert cluster["identity"]["type"] == "UserAssigned"
    assert cluster["properties"]["disableLocalAuth"] is True
    nodes = cluster["properties"]["properties"]
    assert nodes["scaleSettings"]["minNodeCount"] == 0
    assert nodes["scaleSettings"]["nodeIdleTimeBeforeScaleDown"] == "idleTime"
    assert nodes["remoteLoginPortPublicAccess"] == "Disabled"
    assert text(nodes["enableNodePublicIp"]) == "empty(subnetId)"


@pytest.mark.parametrize(("template", "assignment"), assignments())
def test_a_role_is_a_known_one_on_one_resource(template, assignment):
    assert role(assignment) in ROLES
    scope = assignment.body["scope"]
    assert scope in template.resources, "without a scope of its own it would be the resource group"
    assert not template.resources[scope].kind.startswith(("Microsoft.Resources/", "Microsoft.Management/"))
    name = text(assignment.body["name"])
    told = text(assignment.body["properties"]["roleDefinitionId"]).removeprefix("subscription_resource_id(definitions")
    assert name == f"guid({scope}.id, principalId{told}", "the name must follow from scope, identity and role"


def test_no_template_leaves_its_resource_group():
    for file in FILES:
        assert not re.search(r"scope: (subscription|resourceGroup|tenant|managementGroup)\(", file.read_text()), file
        assert "targetScope = 'subscription'" not in file.read_text()


def test_roles_have_names_and_none_is_left_over():
    used = {role(each) for _, each in made(ASSIGNMENT)} | set(module("metadata_access").allowed("role"))
    assert set(ROLES) == used
    assert len(set(ROLES.values())) == len(ROLES)
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", each) for each in ROLES.values())


def test_a_step_may_do_what_it_does_and_no_more():
    assert granted("steps_access") == {
        ("Microsoft.Storage/storageAccounts/blobServices/containers", "Storage Blob Data Reader"),
        ("Microsoft.Storage/storageAccounts", "Storage Blob Data Contributor"),
        ("Microsoft.ContainerRegistry/registries", "AcrPull"),
        ("Microsoft.MachineLearningServices/workspaces", "AzureML Data Scientist"),
    }
    call = module("steps_access").modules["metadata"]
    assert text(call.body["params"]["role"]) == (
        "conditional(writesLabels, Cosmos DB Built-in Data Contributor, Cosmos DB Built-in Data Reader)"
    )
    given = main().modules["stepsAccess"].body["params"]
    assert text(given["storeName"]) == "workspaceStore.outputs.name"
    assert text(given["imagesName"]) == "images.outputs.name"
    assert text(given["writesLabels"]) == "not(empty(labelStudioUrl))"


def test_steps_read_label_studios_token_and_no_other_secret_where_there_is_one():
    access = module("labelling_access")
    assert granted("labelling_access") == {
        ("Microsoft.KeyVault/vaults/secrets", "Key Vault Secrets User"),
        ("Microsoft.Storage/storageAccounts", "Storage Blob Delegator"),
    }
    assert access.resources["token"].body["name"] == "secretName"
    call = main().modules["labellingAccess"]
    assert call.condition == "not(empty(labelStudioUrl))"
    assert call.body["params"]["secretName"] == "tokenSecret"
    assert text(call.body["params"]["principalId"]) == "stepsIdentity.properties.principalId"
    assert main().default("labelStudioUrl") == ""
    told = text(main().outputs["config"]["label_studio_token_secret"])
    assert "vault.outputs.uri" in told
    assert "secrets/${tokenSecret}" in told


def test_only_label_studios_pages_may_show_photos():
    pages = text(main().modules["images"].body["params"]["pages"])
    assert pages == "conditional(empty(labelStudioUrl), [], ['labelStudioUrl'])"
    assert "pages" not in main().modules["workspaceStore"].body["params"]
    assert module("storage").default("pages") == []
    rule = module("storage").variables["showing"]
    assert rule["allowedOrigins"] == "pages"
    assert rule["allowedMethods"] == ["GET", "HEAD"]


def test_who_submits_opens_no_photo():
    assert granted("submitter_access") == {
        ("Microsoft.Storage/storageAccounts", "Storage Blob Data Contributor"),
        ("Microsoft.MachineLearningServices/workspaces", "AzureML Data Scientist"),
    }
    given = main().modules["submittersAccess"].body["params"]
    assert text(given["storeName"]) == "workspaceStore.outputs.name"
    assert not module("submitter_access").modules


def test_a_person_may_load_photos_and_submit():
    assert granted("person_access") == {
        ("Microsoft.Storage/storageAccounts/blobServices/containers", "Storage Blob Data Contributor"),
    }
    assert "in concat(people, submitters):" in (ROOT / "infra" / "main.bicep").read_text()
    call = module("person_access").modules["metadata"]
    assert call.body["params"]["role"] == "Cosmos DB Built-in Data Contributor"


def test_documents_are_opened_on_one_database_only():
    access = module("metadata_access")
    documents = access.resources["documents"].body["properties"]
    assert documents["scope"] == "${cosmos.id}/dbs/${database}"
    assert documents["roleDefinitionId"] == "${cosmos.id}/sqlRoleDefinitions/${roles[role]}"
    opening = access.resources["openingRole"].body["properties"]
    assert opening["permissions"] == [{"dataActions": ["Microsoft.DocumentDB/databaseAccounts/readMetadata"]}]
    assert text(access.resources["opening"].body["properties"]["roleDefinitionId"]) == "openingRole.id"


def test_only_the_builder_of_images_may_push_one():
    pushers = [template.path.stem for template, each in made(ASSIGNMENT) if role(each) == "AcrPush"]
    assert pushers == ["builder_access"]
    assert main().modules["builder"].condition == "privateNetworking"
    assert main().modules["builder"].body["params"]["name"] == "builderCluster"
    assert "builderCluster" in text(main().modules["workspace"].body["params"]["imageBuildCompute"])


def test_the_label_filter_is_the_library_s():
    function = only("Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/userDefinedFunctions").body
    assert module("cosmos").variables["labelFilter"] == FILTER_NAME
    assert function["name"] == function["properties"]["resource"]["id"] == "labelFilter"
    [loaded] = re.findall(r"loadTextContent\('([^']+)'\)", module("cosmos").path.read_text())
    assert (module("cosmos").path.parent / loaded).read_text(encoding="utf-8") == FILTER_BODY


def test_a_container_is_partitioned_as_the_library_does_it():
    container = only("Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers").body["properties"]["resource"]
    [path] = re.findall(r'PartitionKey\(path="([^"]+)"\)', inspect.getsource(MetadataStore.ensure_container))
    assert container["partitionKey"]["paths"] == [path]


def test_photos_and_documents_go_where_the_library_puts_them():
    assert main().modules["images"].body["params"]["containers"] == [BLOB_CONTAINER]
    for access in ("steps_access", "person_access"):
        assert module(access).resources["photos"].body["name"] == BLOB_CONTAINER
    component = yaml.safe_load((ROOT / "components" / "connect_db" / "component.yml").read_text())
    assert component["inputs"]["containers"]["default"] in main().default("collections")


def test_the_output_is_the_whole_config(tmp_path):
    config = main().outputs["config"]
    assert set(config) == {"subscription_id", "resource_group", "workspace_name", *STORES.values()}
    addresses = {key: f"https://the-{key.replace('_', '-')}" for key in config}
    addresses["label_studio_token_secret"] = "https://the-vault.vault.azure.net/secrets/the-token"
    addresses["tuning_storage_secret"] = "https://the-vault.vault.azure.net/secrets/the-database"
    (tmp_path / "config.json").write_text(json.dumps(addresses))
    found = find_workspace(folder=tmp_path, environment={})
    assert (found.subscription, found.resource_group, found.name) == tuple(
        f"https://the-{key}" for key in ("subscription-id", "resource-group", "workspace-name")
    )
    assert found.stores == {variable: addresses[key] for variable, key in STORES.items()}
    assert text(config["blob_endpoint"]) == "images.outputs.blobEndpoint"
    assert text(config["cosmos_endpoint"]) == "cosmos.outputs.endpoint"
    assert text(config["tuning_storage_secret"]) == "tuningStorageSecret"


def test_the_clusters_are_those_that_pipelines_name():
    named = set()
    for file in (ROOT / "pipelines").glob("*.yml"):
        named |= set(re.findall(r"azureml:([\w-]+-cluster)\b", file.read_text()))
    variables = main().variables
    assert named == {variables["cpuCluster"], variables["gpuCluster"]}
    for symbol, variable in {"cpu": "cpuCluster", "gpu": "gpuCluster"}.items():
        assert main().modules[symbol].body["params"]["name"] == variable == main().outputs[variable]


def test_everything_is_closed_to_the_internet_unless_opened():
    assert main().default("privateNetworking") is True
    assert text(main().variables["internetAccess"]) == "conditional(privateNetworking, Disabled, Enabled)"
    assert text(main().variables["unnamedRequests"]) == "conditional(privateNetworking, Deny, Allow)"
    closing = {each.symbol for each in main().modules.values() if "publicNetworkAccess" in each.body["params"]}
    assert closing == {"images", "workspaceStore", "vault", "registry", "cosmos", "workspace"}
    for symbol in closing:
        called = read(main().file_of(main().modules[symbol]))
        assert called.default("publicNetworkAccess") == "Disabled"
        assert main().modules[symbol].body["params"]["publicNetworkAccess"] == "internetAccess"


def test_what_is_closed_has_a_private_endpoint_with_a_name():
    given = main().modules["endpoints"].body["params"]
    targets = module("endpoints").variables["targets"]
    reached = {text(given[each["id"]]).split(".")[0] for each in targets}
    assert reached == {"images", "workspaceStore", "vault", "registry", "cosmos", "workspace"}
    assert {zone for each in targets for zone in each["zones"]} == set(module("endpoints").variables["zones"])
    assert {"network", "endpoints"} <= {
        each.symbol for each in main().modules.values() if each.condition == "privateNetworking"
    }


@pytest.mark.parametrize("file", sorted(INFRA.glob("*.bicepparam")), ids=lambda each: each.stem)
def test_a_parameter_file_gives_what_main_needs(file):
    used, values = read_values(file)
    assert used == main().path
    assert main().required <= set(values) <= set(main().parameters)
    for name, value in values.items():
        assert value in (main().allowed(name) or [value]), name
        kind = {"string": str, "int": int, "bool": bool}[main().parameters[name]["type"]]
        assert type(value) is kind, name
    assert re.fullmatch(r"[a-z][a-z0-9]{2,9}", values["name"])
    assert re.fullmatch(r"PT\d+[MH]", values["idleTime"])


def test_both_parameter_files_say_who_can_reach_it():
    assert read_values(INFRA / "dev.bicepparam")[1]["privateNetworking"] is False
    assert read_values(INFRA / "prod.bicepparam")[1]["privateNetworking"] is True


def test_names_stay_within_what_azure_takes():
    """With the longest name and the eight characters that make it unique."""
    longest = {"images": 24, "workspaceStore": 24, "vault": 24, "registry": 50, "cosmos": 44}
    for symbol, most in longest.items():
        name = main().modules[symbol].body["params"]["name"]
        assert len(name.replace("${base}", "x" * 10).replace("${suffix}", "x" * 8)) <= most, symbol


def scan():
    spec = importlib.util.spec_from_file_location("infra_scan", INFRA / "scan.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def finding(**more):
    told = {"file_path": "/a.bicep", "file_line_range": [3, 9], "check_id": "CKV_1", "check_name": "Lock it"}
    return {**told, "resource": "account", "check_result": {}, **more}


def test_the_scan_tells_findings_unread_files_and_skips_without_a_reason():
    skipped = [
        finding(check_result={"suppress_comment": "it is locked elsewhere"}),
        finding(check_result={"suppress_comment": "No comment provided"}),
    ]
    results = {"parsing_errors": ["b.bicep"], "failed_checks": [finding()], "skipped_checks": skipped}
    assert list(scan().problems({"results": results})) == [
        "b.bicep: checkov can't read it, so nothing in it was judged",
        "a.bicep:3: CKV_1 Lock it (account)",
        "a.bicep:3: CKV_1 is skipped without a reason",
    ]
    assert list(scan().problems({"results": {key: [] for key in results}})) == []


def test_the_scan_says_how_to_install_what_it_needs(monkeypatch, tmp_path):
    loaded = scan()
    monkeypatch.setattr(loaded, "CHECKOV", tmp_path / "checkov")
    with pytest.raises(SystemExit, match=r"make \.tools/\.installed"):
        loaded.main()


def test_make_check_scans():
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    assert "python infra/scan.py" in recipe


def test_every_skip_is_explained():
    skips = [each for file in FILES for each in re.findall(r"checkov:skip.*", file.read_text())]
    assert skips
    for skip in skips:
        assert re.fullmatch(r"checkov:skip=CKV\w+:.{20,}", skip)
