"""A certificate authority for one test run, and what it signed."""

import datetime
import hashlib
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES = [
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
]


class Certificates:
    """Files: `ca`, `certificate` and `key` of the server, `client_*` of a client, `other_ca` of a stranger."""

    def __init__(self, directory):
        self.directory = directory
        self.ca, ca_key, ca_name = self._authority("ca")
        self.other_ca, other_key, other_name = self._authority("other-ca")
        self.certificate, self.key = self._signed("server", ca_key, ca_name, NAMES)
        self.client_certificate, self.client_key = self._signed("client", ca_key, ca_name, [])
        self.stranger_certificate, self.stranger_key = self._signed("stranger", other_key, other_name, [])

    @property
    def server(self):
        """The value of `tls:` for a frontend."""
        return {"certificate": str(self.certificate), "key": str(self.key)}

    @property
    def trust(self):
        """The value of `tls:` for a transport to it."""
        return {"ca": str(self.ca), "server_name": "localhost"}

    @property
    def pin(self):
        """SHA-256 over the server's public key (SubjectPublicKeyInfo), as hexadecimal digits."""
        certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(certificate.public_key().public_bytes(encoding, form)).hexdigest()

    def _authority(self, name):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(*[index in (5, 6) for index in range(9)])
        certificate = (
            self._builder(subject, subject, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return self._write(f"{name}.pem", certificate), key, subject

    def _signed(self, name, ca_key, ca_name, alternatives):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH if alternatives else ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            self._builder(subject, ca_name, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
            )
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = self._write(f"{name}.pem", builder.sign(ca_key, hashes.SHA256()))
        path = self.directory / f"{name}-key.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, path

    def _builder(self, subject, issuer, key):
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    def _write(self, name, certificate):
        path = self.directory / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path
