"""The names that columns of conversations have, in several languages, and the names of roles: one
table for all who read rows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

from chatling.messages import Role

NOT_LETTERS = re.compile(r"[\W_]+")


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """A column's name without case, accents, blanks and signs: `" User Message:"` and
    `user_message` are the same.
    """
    letters = unicodedata.normalize("NFKD", name.casefold())
    return NOT_LETTERS.sub(
        "", "".join(letter for letter in letters if not unicodedata.combining(letter))
    )


def _table(*lines: str) -> tuple[str, ...]:
    """The words of some lines, plain, in order."""
    return tuple(plain(word) for line in lines for word in line.split())


# The first that a row has is taken. Lines: English; German; French; Spanish, Portuguese, Italian;
# other Latin; Russian and its neighbours; Chinese; Japanese; Korean; others.
QUESTION = _table(
    "instruction question prompt query problem user human user_message user_input user_prompt"
    " user_query human_message",
    "client customer ask asked",
    "questions question_text question_body user_question user_text prompt_text instruction_text"
    " input_text message_1 q",
    "frage fragen kunde anweisung aufgabe nutzer benutzer mensch eingabe",
    "consigne utilisateur entrée demande",
    "pregunta instrucción usuario entrada consulta pergunta instrução usuário domanda istruzione"
    " utente ingresso richiesta",
    "vraag instructie gebruiker fråga spørgsmål spørsmål kysymys pytanie polecenie otázka kérdés"
    " întrebare soru talimat girdi câu_hỏi pertanyaan instruksi soalan tanong swali pitanje"
    " vprašanje küsimus jautājums klausimas",
    "вопрос вопросы инструкция запрос задание пользователь ввод питання запитання въпрос питање",
    "问题 指令 提问 问 用户 提示 提示词 输入 题目 問題 提問 問 用戶 輸入 題目 用户输入 用户问题",
    "質問 質問文 指示 問い 入力 ユーザー プロンプト",
    "질문 지시 명령 지시문 사용자 입력 문제 프롬프트",
    "ερώτηση سؤال السؤال سوال پرسش שאלה प्रश्न सवाल คำถาม প্রশ্ন கேள்வி",
    "input inputs x_input",
)
ANSWER = _table(
    "output answer response completion assistant reply solution assistant_message"
    " assistant_response assistant_answer bot_response",
    "answer_text response_text assistant_text output_text target_text",
    "model_response model_answer model_output gpt gpt_answer gpt_response chatgpt bot chatbot ai"
    " ai_response agent answers responses",
    "message_2 generation generated_answer target targets outputs a antwort antworten assistent"
    " ausgabe erwiderung",
    "réponse sortie",
    "respuesta salida asistente resposta saída assistente risposta uscita",
    "antwoord svar vastaus odpowiedź odpověď odpoveď válasz răspuns cevap yanıt çıktı câu_trả_lời"
    " trả_lời jawaban sagot jibu odgovor vastus atbilde atsakymas",
    "ответ ответы вывод ассистент відповідь отговор одговор",
    "答案 回答 答 回复 输出 助手 答复 解答 應答 回覆 輸出 答覆 参考答案 标准答案",
    "回答文 応答 答え 出力 返答 アシスタント",
    "답변 대답 응답 출력 정답 답",
    "απάντηση جواب الجواب إجابة الإجابة پاسخ תשובה उत्तर जवाब คำตอบ উত্তর பதில்",
)
CONTEXT = _table(  # stands below the question, as in Alpaca
    "input context passage background knowledge document_context kontext eingabe hintergrund"
    " contexte entrée contexto entrada contesto",
    "ingresso kontekst контекст ввод 输入 上下文 背景 輸入 文脈 背景情報 入力 맥락 문맥 입력",
)
SYSTEM = _table(
    "system system_prompt system_message system_instruction meta_instruction sys",
    "系统 系统提示 系统提示词 системный_промпт システム 시스템",
)
HISTORY = _table("history 历史 歷史")
TURNS = _table(
    "messages conversations conversation dialog dialogue dialogs dialogues turns chat chats conv"
    " convs message_list",
    "gespräch gespräche nachrichten unterhaltung échanges mensajes conversación conversas messaggi"
    " диалог сообщения",
    "对话 消息 聊天 對話 会話 メッセージ 대화 메시지 utterances data",
)
CHOICES = _table(
    "choices options candidates auswahl optionen opciones opções opzioni варианты 选项",
    "選択肢 선택지",
)
TEXT = _table(
    "text content document article body passage paragraph 正文 内容 文本 內容 texte texto testo"
    " tekst текст 本文 テキスト 본문 내용 텍스트",
)

CHOSEN = _table(
    "chosen response_chosen chosen_response answer_chosen chosen_answer chosen_output"
    " preferred_output preferred_response preferred accepted response_j"
)
REJECTED = _table(
    "rejected response_rejected rejected_response answer_rejected rejected_answer rejected_output"
    " non_preferred_output non_preferred_response dispreferred refused response_k"
)
# two answers, and which of them is better
JUDGED = (
    (
        _table("response_0 response_1"),
        _table("better_response_id preferred_response_id winner preference"),
    ),
    (_table("answer_0 answer_1"), _table("better_answer_id winner preference")),
    (_table("response_a response_b"), _table("winner preference preferred better label chosen")),
    (_table("answer_a answer_b"), _table("winner preference preferred better label chosen")),
    (_table("conversation_a conversation_b"), _table("winner preference preferred")),
    (_table("response_1 response_2"), _table("winner better better_response")),
)

ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
TEXT_KEYS = ("content", "value", "text", "message", "utterance")
ROLE_NAMES: Mapping[Role, str] = {
    "system": "system developer",
    "user": (
        "user human prompter person customer client usuario utilisateur nutzer benutzer"
        " пользователь 用户 用戶 人类 ユーザー 사용자"
    ),
    "assistant": (
        "assistant gpt chatgpt bot model chatbot ai agent bard bing claude gemini llama moss"
        " asistente assistent ассистент 助手 アシスタント 어시스턴트"
    ),
}
ROLES: Mapping[str, Role] = {
    plain(name): role for role, names in ROLE_NAMES.items() for name in names.split()
}


def find_name(names: Iterable[str], known: Collection[str]) -> str | None:
    """The name among `names` that comes first in `known`, however it is written."""
    written: dict[str, str] = {}
    for name in names:
        written.setdefault(plain(name), name)
    return next((written[name] for name in known if name in written), None)


def role_of(name: Any) -> Role | None:
    return ROLES.get(plain(name)) if isinstance(name, str) else None
