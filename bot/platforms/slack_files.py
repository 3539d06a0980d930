"""Files that people attach on Slack. They come for the bot's token, which goes to Slack's own hosts alone."""

from yarl import URL

from bot.attachments.values import safe_name
from bot.chat import Attachment, Fetch
from bot.errors import DeliveryFailed
from bot.platforms.web_files import download


def fetch_from_slack(bot_token: str, api_url: str) -> Fetch:
    """Slack's files are at files.slack.com where its API is at slack.com, and a compatible server's beside its API."""
    api = URL(api_url).origin()
    origins = [api, api.with_host(f"files.{api.host}")]
    headers = {"Authorization": f"Bearer {bot_token}"}

    async def fetch(attachment: Attachment, limit: int) -> bytes:
        if not attachment.url:
            raise DeliveryFailed(
                f"{safe_name(attachment.name)} was deleted, or Slack does not show it to apps."
            )
        return await download(attachment, limit, origins=origins, headers=headers, where="Slack")

    return fetch
