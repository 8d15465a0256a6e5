// An index as a signed word; one that does not fit is further out than any axis reaches.
fn as_index(index: Index) -> i32 {
    let word = i32(index);
    return select(-2147483647 - 1, word, Index(word) == index);
}
