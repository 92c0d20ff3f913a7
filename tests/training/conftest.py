import pytest
from training_material import stripes_dataset


@pytest.fixture(scope="session")
def dataset():
    return stripes_dataset()
