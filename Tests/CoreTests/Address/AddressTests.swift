import NIOCore
import Testing

@testable import MagicalaneCore

@Suite struct AddressTests {
  @Test(arguments: [
    ("example.com:443", "example.com:443"), ("192.0.2.1:1", "192.0.2.1:1"),
    ("[2001:db8::1]:65535", "[2001:db8::1]:65535"),
    ("a_b-c.example.:80", "a_b-c.example.:80"), ("[0:0:0:0:0:0:0:1]:9", "[::1]:9"),
  ])
  func `a target reads and prints as an authority`(text: String, printed: String) throws {
    #expect(try #require(Target(text)).description == printed)
  }

  @Test(arguments: [
    "", ":", "host", "host:", "host:0", "host:65536", "host:-1", "host:+1", "host:1x", ":80", "a..b:80",
    "2001:db8::1:80",
    "[2001:db8::1]", "[192.0.2.1]:80", "[::1:80", "ho st:80", "host\n:80", "host:000080", "ünïcode:80",
    "127.0.0.1\0x:80",
  ])
  func `what is no authority is no target`(text: String) {
    #expect(Target(text) == nil)
  }

  @Test func `a name over 253 bytes or a label over 63 is no host`() {
    let label = String(repeating: "a", count: 63)
    #expect(Host(label) != nil)
    #expect(Host(label + "a") == nil)
    #expect(Host([label, label, label, String(repeating: "a", count: 61)].joined(separator: ".")) != nil)
    #expect(Host([label, label, label, String(repeating: "a", count: 62)].joined(separator: ".")) == nil)
  }

  @Test(arguments: [
    "0.0.0.0", "255.255.255.255", "192.0.2.7", "::", "::1", "2001:db8::7", "fe80::1", "::ffff:10.0.0.1",
  ])
  func `an address survives its bytes, its text and its socket form`(text: String) throws {
    let address = try #require(IPAddress(text))
    #expect(IPAddress(bytes: address.bytes) == address)
    #expect(IPAddress(address.description) == address)
    #expect(IPAddress(address.socketAddress(port: 7)) == address)
    #expect(address.socketAddress(port: 7).port == 7)
  }

  @Test func `a listen address keeps port 0 and any scheme`() throws {
    let address = try #require(ListenAddress("quic://[::]:0"))
    #expect(address.scheme == "quic")
    #expect(address.hostAndPort?.port == 0)
    #expect(address.hostAndPort?.host == .address(.v6(0)))
    #expect(ListenAddress("unix:///run/m.sock")?.location == "/run/m.sock")
    #expect(ListenAddress("127.0.0.1:80") == nil)
    #expect(ListenAddress("://x") == nil)
    #expect(ListenAddress("tcp://") == nil)
  }
}

@Suite struct AddressPolicyTests {
  private let foreign = AddressPolicy(
    allowsLocal: false,
    reserved: [IPAddress.v4(0xc000_0201).socketAddress(port: 9090)]
  )

  @Test(arguments: [
    "127.0.0.1", "127.255.0.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "169.254.1.1", "fe80::1",
    "febf::1",
    "::ffff:169.254.169.254",
  ])
  func `a request from another host reaches no local address`(text: String) throws {
    let address = try #require(IPAddress(text))
    #expect(!foreign.permits(address.socketAddress(port: 80)))
    #expect(!foreign.permits(Target(host: .address(address), port: 80)))
    #expect(AddressPolicy.unrestricted.permits(address.socketAddress(port: 80)))
  }

  @Test(arguments: ["localhost", "LOCALHOST", "localhost.", "x.localhost"])
  func `a request from another host reaches no name that means local`(name: String) {
    #expect(!foreign.permits(Target(host: .name(name), port: 80)))
    #expect(AddressPolicy.unrestricted.permits(Target(host: .name(name), port: 80)))
  }

  @Test(arguments: ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fec0::1", "::ffff:8.8.8.8"])
  func `other addresses are free`(text: String) throws {
    let address = try #require(IPAddress(text))
    #expect(foreign.permits(address.socketAddress(port: 80)))
  }

  @Test func `the admin listener is reserved, mapped or not, and on every address where it listens on all`()
    throws
  {
    let mapped = try #require(IPAddress("::ffff:192.0.2.1"))
    #expect(!foreign.permits(IPAddress.v4(0xc000_0201).socketAddress(port: 9090)))
    #expect(!foreign.permits(mapped.socketAddress(port: 9090)))
    #expect(foreign.permits(IPAddress.v4(0xc000_0201).socketAddress(port: 9091)))
    let wildcard = AddressPolicy(allowsLocal: false, reserved: [IPAddress.v4(0).socketAddress(port: 9090)])
    #expect(!wildcard.permits(IPAddress.v4(0xc000_0207).socketAddress(port: 9090)))
  }
}
