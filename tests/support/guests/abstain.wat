(call $abstain)
