/// Edits on the tree of a config, before it is checked.
extension ConfigValue {
  /// The position of the entry of a name in a section's list.
  func index(of name: String, in section: ConfigSection) -> Int? {
    self[section.rawValue]?.items.firstIndex { $0["name"]?.scalar?.text == name }
  }

  /// The entry of a name.
  func entry(_ name: String, in section: ConfigSection) -> ConfigValue? {
    index(of: name, in: section).flatMap { self[section.rawValue]?.items[$0] }
  }

  /// The same with an entry in the place of the one of that name, or behind the last.
  func setting(_ entry: ConfigValue, named name: String, in section: ConfigSection) -> ConfigValue {
    var items = self[section.rawValue]?.items ?? []
    if let index = index(of: name, in: section) { items[index] = entry } else { items.append(entry) }
    return setting(section.rawValue, to: list(items, like: section))
  }

  /// The same without the entry of that name.
  func removing(_ name: String, from section: ConfigSection) -> ConfigValue {
    var items = self[section.rawValue]?.items ?? []
    if let index = index(of: name, in: section) { items.remove(at: index) }
    return setting(section.rawValue, to: list(items, like: section))
  }

  private func list(_ items: [ConfigValue], like section: ConfigSection) -> ConfigValue {
    ConfigValue(content: .sequence(items), position: self[section.rawValue]?.position ?? .start)
  }

  /// The same mapping with one member set, in its place or as the last.
  func setting(_ key: String, to value: ConfigValue) -> ConfigValue {
    var members = members
    if let index = members.firstIndex(where: { $0.key == key }) {
      members[index].value = value
    } else {
      members.append(.init(key: key, position: value.position, value: value))
    }
    return ConfigValue(content: .mapping(members), position: position)
  }

  /// The same mapping without one member.
  func removing(_ key: String) -> ConfigValue {
    guard case .mapping(let members) = content else { return self }
    return ConfigValue(content: .mapping(members.filter { $0.key != key }), position: position)
  }

  /// What a merge patch makes of it (RFC 7396 §2).
  func merging(_ patch: ConfigValue) -> ConfigValue {
    guard case .mapping(let changes) = patch.content else { return patch }
    let isMapping = if case .mapping = content { true } else { false }
    var result = isMapping ? self : ConfigValue(content: .mapping([]), position: patch.position)
    for change in changes {
      if change.value.isNull {
        result = result.removing(change.key)
      } else {
        let old = result[change.key] ?? ConfigValue(content: .null, position: change.position)
        result = result.setting(change.key, to: old.merging(change.value))
      }
    }
    return result
  }

  /// The same with each secret that is only marked as "as before" taken from the config before.
  ///
  /// Entries of a list are the same where their `name` is, else where their place is.
  func keepingSecrets(of old: ConfigValue?, _ secrets: Set<[String]>, at path: [String] = []) -> ConfigValue {
    var copy = self
    switch content {
    case .scalar(let scalar) where scalar.text == Self.redacted && secrets.contains(path):
      copy.content = old?.content ?? content
    case .mapping(let members):
      copy.content = .mapping(
        members.map { member in
          var member = member
          let before = old?[member.key]
          member.value = member.value.keepingSecrets(of: before, secrets, at: path + [member.key])
          return member
        }
      )
    case .sequence(let items):
      let before = old?.items ?? []
      copy.content = .sequence(
        items.enumerated().map { index, item in
          let name = item["name"]?.scalar?.text
          let place = name.map { name in before.firstIndex { $0["name"]?.scalar?.text == name } } ?? index
          guard let place, before.indices.contains(place) else { return item }
          return item.keepingSecrets(of: before[place], secrets, at: path + ["\(place)"])
        }
      )
    case .null, .broken, .scalar: ()
    }
    return copy
  }
}
