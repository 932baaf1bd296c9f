// swift-tools-version:6.1
import PackageDescription

let package = Package(
  name: "magicalane",
  products: [
    .executable(name: "magicalane", targets: ["magicalane"]),
    .library(name: "MagicalaneCore", targets: ["MagicalaneCore"]),
    .library(name: "MagicalaneTransports", targets: ["MagicalaneTransports"]),
    .library(name: "MagicalaneFrontends", targets: ["MagicalaneFrontends"]),
    .library(name: "MagicalaneAdaptive", targets: ["MagicalaneAdaptive"]),
    .library(name: "MagicalaneAdminHTTP", targets: ["MagicalaneAdminHTTP"]),
    .library(name: "MagicalaneCommand", targets: ["MagicalaneCommand"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    .target(name: "CPath", path: "Sources/CPath"),
    .target(name: "CSplice", path: "Sources/CSplice"),
    .target(
      name: "MagicalaneCore",
      dependencies: [
        "CPath", "CSplice",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "Metrics", package: "swift-metrics"),
        .product(name: "Yams", package: "Yams"),
      ],
      path: "Sources/Core"
    ),
    .systemLibrary(
      name: "CGnuTLS", path: "Sources/CGnuTLS", pkgConfig: "gnutls",
      providers: [.apt(["libgnutls28-dev"])]
    ),
    .systemLibrary(
      name: "CNgtcp2", path: "Sources/CNgtcp2", pkgConfig: "libngtcp2_crypto_gnutls",
      providers: [.apt(["libngtcp2-dev", "libngtcp2-crypto-gnutls-dev"])]
    ),
    .target(
      name: "MagicalaneTransports",
      dependencies: [
        "MagicalaneCore", "CGnuTLS", "CNgtcp2",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "Metrics", package: "swift-metrics"),
      ],
      path: "Sources/Transports"
    ),
    .target(
      name: "MagicalaneFrontends",
      dependencies: [
        "MagicalaneCore",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Sources/Frontends"
    ),
    .target(
      name: "MagicalaneAdaptive",
      dependencies: [
        "MagicalaneCore",
        .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "Metrics", package: "swift-metrics"),
      ],
      path: "Sources/Adaptive"
    ),
    .systemLibrary(
      name: "CMicrohttpd", path: "Sources/CMicrohttpd", pkgConfig: "libmicrohttpd",
      providers: [.apt(["libmicrohttpd-dev"])]
    ),
    .target(
      name: "MagicalaneAdminHTTP",
      dependencies: [
        "MagicalaneCore", "CMicrohttpd",
        .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "CoreMetrics", package: "swift-metrics"),
      ],
      path: "Sources/AdminHTTP",
      // A link to the one at the root, so that the program can serve it wherever it is installed.
      resources: [.embedInCode("openapi.yaml")]
    ),
    .target(
      name: "MagicalaneCommand",
      dependencies: [
        "MagicalaneAdaptive", "MagicalaneAdminHTTP", "MagicalaneCore", "MagicalaneFrontends",
        "MagicalaneTransports",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "Metrics", package: "swift-metrics"),
        .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "UnixSignals", package: "swift-service-lifecycle"),
      ],
      path: "Sources/Command"
    ),
    .executableTarget(
      name: "magicalane",
      dependencies: ["MagicalaneCommand"],
      path: "Sources/magicalane"
    ),
    .testTarget(
      name: "CoreTests",
      dependencies: [
        "MagicalaneCore",
        .product(name: "MetricsTestKit", package: "swift-metrics"),
        .product(name: "NIOEmbedded", package: "swift-nio"),
      ]
    ),
    .testTarget(
      name: "AdaptiveTests",
      dependencies: [
        "MagicalaneAdaptive",
        .product(name: "MetricsTestKit", package: "swift-metrics"),
        .product(name: "NIOEmbedded", package: "swift-nio"),
      ]
    ),
    .testTarget(
      name: "TransportsTests",
      dependencies: [
        "MagicalaneTransports",
        .product(name: "MetricsTestKit", package: "swift-metrics"),
        .product(name: "NIOEmbedded", package: "swift-nio"),
      ]
    ),
    .testTarget(
      name: "FrontendsTests",
      dependencies: [
        "MagicalaneFrontends",
        .product(name: "NIOEmbedded", package: "swift-nio"),
      ]
    ),
    .testTarget(
      name: "AdminHTTPTests",
      dependencies: ["MagicalaneAdminHTTP"]
    ),
    .testTarget(
      name: "CommandTests",
      dependencies: [
        "MagicalaneCommand",
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ]
    ),
  ],
  swiftLanguageModes: [.v6]
)
