from tests.support.dns import dns_server

__all__ = ["dns_server"]
