"""`lift` by a service: words to an asset with a sheet of its candidates; weights that were not allowed are refused."""

import PIL.Image
import pytest
from pxr import Usd
from services import shared_service
from tiny_shap_e import save_shap_e

from neuralusd.schema import NeuralProvenanceAPI
from neuralusd.service.client import JobFailed, ServiceError

TOKEN = "nobody-guesses-this-token-of-forty-eight-characters"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_shap_e(tmp_path_factory.mktemp("shap-e"), "text")


@pytest.fixture(scope="module")
def client(tmp_path_factory, weights):
    """Of a shared service that may use the weights."""
    folder = tmp_path_factory.mktemp("shared") / "state"
    with shared_service(folder, {"ann": TOKEN}, "--allow-weights", weights) as process:
        yield process.client(TOKEN)


def test_words_become_an_asset(client, weights, tmp_path):
    job = client.submit(
        "lift",
        text="a bag",
        backend=weights,
        steps=2,
        candidates=2,
        sheet=True,
        gaussians=True,
        texture_size=64,
        seed=4,
    )
    result = job.wait()
    assert result["prim"] == "/Bag" and result["volume"] is None
    assert result["extent"][0][1] == 0 and result["extent"][1][1] == pytest.approx(1.0)
    stage = Usd.Stage.Open(job.download("asset.usdz", tmp_path / "asset.usdz"))
    made = NeuralProvenanceAPI(stage.GetDefaultPrim())
    assert (made.GetPromptAttr().Get(), made.GetSeedAttr().Get()) == ("a bag", 4)
    assert stage.GetDefaultPrim().GetVariantSet("representation").GetVariantNames() == ["gaussians", "mesh"]
    with PIL.Image.open(job.download("candidates.png", tmp_path / "candidates.png")) as sheet:
        assert sheet.size == (2 * 192, 214)


def test_weights_that_were_not_allowed_are_refused_and_the_silhouette_is_free(client):
    with pytest.raises(ServiceError, match="'openai/shap-e' is not among the weights"):
        client.submit("lift", text="a bag", backend="openai/shap-e")
    with pytest.raises(JobFailed, match="takes no words; it makes things of pictures"):
        client.submit("lift", text="a bag", backend="silhouette").wait()
