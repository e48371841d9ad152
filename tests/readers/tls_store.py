# S3 by TLS with a certificate of a CA of its own: tls_store.py PORT CA_FILE LOG. It takes all that is put, and notes the paths.
import datetime, http.server, ipaddress, os, ssl, sys, tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

port, ca_file, log = int(sys.argv[1]), sys.argv[2], sys.argv[3]
now = datetime.datetime.now(datetime.timezone.utc)


def certificate(name, key, issuer, issuer_key, extensions):
    named = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    builder = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer)).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
ca = certificate("observer test CA", ca_key, "observer test CA", ca_key, [(x509.BasicConstraints(ca=True, path_length=0), True)])
host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
server = certificate("127.0.0.1", key, "observer test CA", ca_key, [(host, False)])
private = key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


class Put(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_PUT(self):
        self.rfile.read(int(self.headers["content-length"]))
        with open(log, "a") as file:
            file.write(self.path + "\n")
        self.send_response(200)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", "0")
        self.end_headers()


with tempfile.NamedTemporaryFile() as chain:
    chain.write(server + private)
    chain.flush()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain.name)
listener = http.server.ThreadingHTTPServer(("127.0.0.1", port), Put)
listener.socket = context.wrap_socket(listener.socket, server_side=True)
with open(ca_file + ".new", "wb") as file:
    file.write(ca)
# There once the server listens.
os.rename(ca_file + ".new", ca_file)
listener.serve_forever()
