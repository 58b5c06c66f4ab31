// Tests of backends/xray/request_body.h.
#include "backends/xray/request_body.h"

#include <gtest/gtest.h>

#include "engine/segment/json_reader.h"
#include "tests/unit/backends/xray/batch_fixture.h"

namespace mobula {
namespace {

using Outcome = RequestBody::Outcome;

class RequestBodyTest : public testing::BatchFixture {
 protected:
  // The documents in a body, as the far side decodes them.
  std::vector<std::string> Documents(const RequestBody& body) {
    const auto json = ParseJson(body.text());
    EXPECT_TRUE(json) << body.text();
    if (!json) return {};
    EXPECT_EQ(json->members.size(), 1U);
    const JsonValue* const list = json->Find("TraceSegmentDocuments");
    EXPECT_NE(list, nullptr);
    std::vector<std::string> out;
    for (const JsonValue& item : list->items) out.push_back(item.string);
    return out;
  }

  RequestBody Build(const BatchRef& batch, DocumentSet documents) {
    const size_t before = pool_->bytes_used();
    RequestBody body = BuildRequestBody(*batch, documents, pool_.get());
    if (body.outcome == Outcome::kBuilt) {
      EXPECT_LE(body.size, body.block.bytes);
      EXPECT_EQ(pool_->bytes_used(), before + body.block.bytes);
    } else {
      EXPECT_EQ(pool_->bytes_used(), before);
    }
    return body;
  }
};

TEST_F(RequestBodyTest, CarriesTheDocumentsUnchanged) {
  const std::vector<std::string> documents = {
      R"({"id":"a","text":"quote \" backslash \\ tab \t"})", "{\n  \"pretty\": true\r\n}",
      "{\"utf8\":\"\xc3\xa9\xf0\x9f\x98\x80\xe2\x80\xa8\"}"};
  const BatchRef batch = MakeBatch(documents);
  const RequestBody body = Build(batch, batch->all());
  ASSERT_EQ(body.outcome, Outcome::kBuilt);
  EXPECT_EQ(body.taken, batch->all());
  EXPECT_EQ(Documents(body), documents);
  EXPECT_TRUE(body.text().starts_with(R"({"TraceSegmentDocuments":["{\"id\")")) << body.text();
  EXPECT_TRUE(body.text().ends_with(R"("]})"));
  pool_->Release(body.block);
}

TEST_F(RequestBodyTest, TakesOnlyWhatIsAsked) {
  const BatchRef batch = MakeBatch({"{\"n\":0}", "{\"n\":1}", "{\"n\":2}", "{\"n\":3}"});
  const RequestBody body = Build(batch, 0b1010);
  EXPECT_EQ(body.taken, 0b1010U);
  EXPECT_EQ(Documents(body), (std::vector<std::string>{"{\"n\":1}", "{\"n\":3}"}));
  pool_->Release(body.block);
}

TEST_F(RequestBodyTest, TakesFiftyDocumentsAtMost) {
  const BatchRef batch = MakeBatch(std::vector<std::string>(64, "{}"));
  const RequestBody first = Build(batch, batch->all());
  EXPECT_EQ(Count(first.taken), 50);
  EXPECT_EQ(Documents(first).size(), 50U);
  const RequestBody second = Build(batch, batch->all() & ~first.taken);
  EXPECT_EQ(Count(second.taken), 14);
  pool_->Release(first.block);
  pool_->Release(second.block);
}

TEST_F(RequestBodyTest, LeavesOutWhatDoesNotFitIntoTheBlock) {
  const std::string large = "{\"a\":\"" + std::string(60000, 'x') + "\"}";
  const BatchRef batch = MakeBatch({large, large, large, large});
  // 240 KB fit; escaped twice as long, they do not.
  const RequestBody body = Build(batch, batch->all());
  EXPECT_EQ(body.taken, batch->all());
  pool_->Release(body.block);

  std::string quotes = "{\"a\":\"";
  for (int i = 0; i < 20000; ++i) quotes += R"(\")";
  quotes += "\"}";
  const BatchRef growing = MakeBatch({quotes, quotes, quotes, quotes});  // 80 KB each, escaped
  const RequestBody first = Build(growing, growing->all());
  EXPECT_EQ(first.taken, 0b0111U);
  EXPECT_EQ(Documents(first), (std::vector<std::string>{quotes, quotes, quotes}));
  pool_->Release(first.block);
}

TEST_F(RequestBodyTest, FillsABlockToTheLastByte) {
  // Around the boundary of the largest block: never a byte over, and the limit is really reached.
  const std::string filler(60000, 'x');
  size_t largest = 0;
  for (size_t size = 10950; size < 11100; ++size) {
    // Every quote takes two bytes of the block.
    const BatchRef batch = MakeBatch({filler, filler, filler, filler, std::string(size, '"')});
    const RequestBody body = Build(batch, batch->all());
    ASSERT_EQ(body.outcome, Outcome::kBuilt);
    if (body.taken == batch->all()) largest = std::max<size_t>(largest, body.size);
    pool_->Release(body.block);
  }
  EXPECT_GT(largest, BlockPool::kBlockBytesMax - 64);
}

TEST_F(RequestBodyTest, ADocumentThatFitsNowhereIsTooLarge) {
  const std::string controls(60000, '\x01');  // six bytes each; only unread documents can hold them
  const BatchRef batch = MakeBatch({"{}", controls, "{}"}, DocumentKind::kRaw);
  const RequestBody before = Build(batch, batch->all());
  EXPECT_EQ(before.taken, 0b001U);
  pool_->Release(before.block);
  const RequestBody body = Build(batch, 0b110);
  EXPECT_EQ(body.outcome, Outcome::kTooLarge);
  EXPECT_EQ(body.taken, 0b010U);
}

TEST_F(RequestBodyTest, CarriesALargeDocumentAloneAsLongAsItsEscapedTextFits) {
  const auto document = [](size_t quotes) {
    std::string text = "{\"a\":\"";
    for (size_t i = 0; i < quotes; ++i) text += R"(\")";
    return text + "\"}";
  };
  // Two bytes each, escaped four.
  const std::string fits = document(65000);
  const std::string over = document(66000);
  for (const auto& [text, outcome] :
       {std::pair(fits, Outcome::kBuilt), std::pair(over, Outcome::kTooLarge)}) {
    const BatchRef batch = MakeBatch({text});
    const RequestBody body = Build(batch, batch->all());
    ASSERT_EQ(body.outcome, outcome);
    EXPECT_EQ(body.taken, batch->all());
    if (outcome != Outcome::kBuilt) continue;
    EXPECT_EQ(Documents(body), std::vector<std::string>{text});
    pool_->Release(body.block);
  }
}

TEST_F(RequestBodyTest, NoRoomInThePoolIsNoMemory) {
  const BatchRef batch = MakeBatch({"{}"});
  std::vector<Block> all;
  while (const Block block = pool_->TryAcquire(BlockPool::kPageBytes)) all.push_back(block);
  EXPECT_EQ(Build(batch, batch->all()).outcome, Outcome::kNoMemory);
  for (const Block block : all) pool_->Release(block);
}

TEST_F(RequestBodyTest, UnreadDocumentsAreRepaired) {
  for (const DocumentKind kind :
       {DocumentKind::kRaw, DocumentKind::kOtlp, DocumentKind::kUnscanned}) {
    const BatchRef batch = MakeBatch({"T1S\xff\"\xc3", "plain"}, kind);
    const RequestBody body = Build(batch, batch->all());
    EXPECT_EQ(Documents(body),
              (std::vector<std::string>{"T1S\xef\xbf\xbd\"\xef\xbf\xbd", "plain"}));
    pool_->Release(body.block);
  }
}

}  // namespace
}  // namespace mobula
